package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
)

type object = map[string]any

var commands map[string]func(context.Context, *Node, Arguments) (any, error)

func init() {
	commands = map[string]func(context.Context, *Node, Arguments) (any, error){
		"info": info, "dial": dial, "hangup": hangup, "connections": connections,
		"identify": identify, "handle": handle,
		"ping": pingService, "ping_stream": pingService, // go's own service uses one stream
		"echo": echoCommand, "upload": upload, "streams": streams, "half_close": halfClose,
		"put": put, "get": get, "provide": provide, "find_providers": findProviders,
		"find_peer": findPeer, "routing_table": routingTable,
		"reserve": reserve, "autonat_v2": autonatV2, "autonat_v1": autonatV1,
		"dialbench": dialbench, "release": release, "mem": mem, "cpu": cpu,
	}
}

// ---- connections ----

func info(_ context.Context, node *Node, _ Arguments) (any, error) {
	return object{
		"implementation": "go",
		"peer_id":        node.host.ID().String(),
		"addresses":      node.addresses(),
		"protocols":      names(node.host.Mux().Protocols()),
	}, nil
}

func describe(connection network.Conn) object {
	state := connection.ConnState()
	open := []string{}
	for _, stream := range connection.GetStreams() {
		open = append(open, string(stream.Protocol()))
	}
	return object{
		"peer_id":     connection.RemotePeer().String(),
		"addr":        connection.RemoteMultiaddr().String(),
		"direction":   direction(connection.Stat()),
		"security":    string(state.Security),
		"muxer":       string(state.StreamMultiplexer),
		"early_muxer": state.UsedEarlyMuxerNegotiation,
		"limited":     connection.Stat().Limited,
		"transport":   string(state.Transport),
		"streams":     open,
	}
}

// dial tries exactly `addr`, whatever else is known about the peer or failed before.
func dial(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	target, err := peer.AddrInfoFromString(arguments.Addr)
	if err != nil {
		return nil, err
	}
	if node.host.Network().Connectedness(target.ID) == network.NotConnected {
		node.host.Peerstore().ClearAddrs(target.ID)
		if dialer, ok := node.host.Network().(*swarm.Swarm); ok {
			dialer.Backoff().Clear(target.ID)
		}
	}
	if err := node.host.Connect(ctx, *target); err != nil {
		return nil, err
	}
	open := node.host.Network().ConnsToPeer(target.ID)
	if len(open) == 0 {
		return nil, errors.New("the connection closed at once")
	}
	return describe(open[0]), nil
}

func hangup(_ context.Context, node *Node, arguments Arguments) (any, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	return true, node.host.Network().ClosePeer(id)
}

func connections(_ context.Context, node *Node, _ Arguments) (any, error) {
	all := []object{}
	for _, connection := range node.host.Network().Conns() {
		all = append(all, describe(connection))
	}
	return all, nil
}

func identify(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	completed, count, err := node.identified.wait(ctx, id, arguments.Count)
	if err != nil {
		return nil, err
	}
	observed := ""
	if completed.ObservedAddr != nil {
		observed = completed.ObservedAddr.String()
	}
	return object{
		"agent":            completed.AgentVersion,
		"protocol_version": completed.ProtocolVersion,
		"protocols":        names(completed.Protocols),
		"addresses":        texts(completed.ListenAddrs),
		"observed":         observed,
		"signed_record":    completed.SignedPeerRecord != nil,
		"count":            count,
	}, nil
}

// handle registers a further echo protocol, which identify push then tells every peer.
func handle(_ context.Context, node *Node, arguments Arguments) (any, error) {
	node.host.SetStreamHandler(protocol.ID(arguments.Protocol), serve(echo))
	return true, nil
}

func texts(addresses []multiaddr.Multiaddr) []string {
	all := make([]string, len(addresses))
	for i, address := range addresses {
		all[i] = address.String()
	}
	return all
}

// ---- streams ----

func open(ctx context.Context, node *Node, arguments Arguments) (network.Stream, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	ctx = network.WithAllowLimitedConn(ctx, "the tests use circuits")
	stream, err := node.host.NewStream(ctx, id, protocol.ID(arguments.Protocol))
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetDeadline(deadline)
	}
	return stream, nil
}

// pattern is the bytes 0, 1, … 250 over and over: a length that divides no buffer size, so a lost or moved chunk shows.
func pattern(length, shift int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte((i + shift) % 251)
	}
	return data
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since)) / float64(time.Millisecond)
}

// exchange writes and reads at the same time, so that an echo of any size flows, and closes its own side first.
func exchange(stream network.Stream, data []byte) ([]byte, error) {
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(data)
		if err == nil {
			err = stream.CloseWrite()
		}
		written <- err
	}()
	answer, err := io.ReadAll(stream)
	if err := errors.Join(err, <-written); err != nil {
		_ = stream.Reset()
		return nil, err
	}
	return answer, stream.Close()
}

func echoCommand(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	data := pattern(arguments.Bytes, 0)
	if arguments.Data != nil {
		var err error
		if data, err = base64.StdEncoding.DecodeString(*arguments.Data); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	stream, err := open(ctx, node, arguments)
	if err != nil {
		return nil, err
	}
	answer, err := exchange(stream, data)
	if err != nil {
		return nil, err
	}
	elapsed := milliseconds(start)
	if arguments.Data != nil {
		return object{"data_b64": base64.StdEncoding.EncodeToString(answer), "ms": elapsed}, nil
	}
	if !bytes.Equal(answer, data) {
		return nil, fmt.Errorf("%d of %d bytes came back, or changed", len(answer), len(data))
	}
	digest := sha256.Sum256(answer)
	return object{"bytes": len(answer), "sha256": hex.EncodeToString(digest[:]), "ms": elapsed}, nil
}

func upload(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	stream, err := open(ctx, node, arguments)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Reset() }() // does nothing to a stream that closed
	chunk := pattern(chunkSize, 0)
	start := time.Now()
	for left := arguments.Bytes; left > 0; left -= chunkSize {
		if _, err := stream.Write(chunk[:min(chunkSize, left)]); err != nil {
			return nil, err
		}
	}
	if err := stream.CloseWrite(); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(stream)
	if err != nil {
		return nil, err
	}
	acknowledged, err := strconv.Atoi(string(answer))
	return object{"acknowledged": acknowledged, "ms": milliseconds(start)}, err
}

// streams opens all n before the first one is closed.
func streams(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	start := time.Now()
	all := make([]network.Stream, arguments.N)
	for i := range all {
		var err error
		if all[i], err = open(ctx, node, arguments); err != nil {
			return nil, fmt.Errorf("stream %d: %w", i, err)
		}
	}
	results := make(chan error, len(all))
	for i, stream := range all {
		go func() {
			answer, err := exchange(stream, pattern(1000, i))
			if err == nil && !bytes.Equal(answer, pattern(1000, i)) {
				err = fmt.Errorf("stream %d came back changed", i)
			}
			results <- err
		}()
	}
	var failure error
	for range all {
		failure = errors.Join(failure, <-results)
	}
	return object{"verified": len(all), "ms": milliseconds(start)}, failure
}

func halfClose(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if arguments.Data == nil {
		return nil, errors.New("data_b64 is missing")
	}
	data, err := base64.StdEncoding.DecodeString(*arguments.Data)
	if err != nil {
		return nil, err
	}
	stream, err := open(ctx, node, arguments)
	if err != nil {
		return nil, err
	}
	answer, err := exchange(stream, data)
	return object{"data_b64": base64.StdEncoding.EncodeToString(answer)}, err
}

func pingService(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	times := []float64{}
	for result := range ping.Ping(ctx, node.host, id) {
		if result.Error != nil {
			return nil, result.Error
		}
		times = append(times, float64(result.RTT)/float64(time.Millisecond))
		if len(times) >= max(arguments.N, 1) {
			return times, nil
		}
	}
	return nil, ctx.Err()
}

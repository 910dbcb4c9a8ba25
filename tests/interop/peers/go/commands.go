package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
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

// ---- streams ----

func open(ctx context.Context, node *Node, arguments Arguments) (network.Stream, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
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

// ---- the DHT ----

var errNoDHT = errors.New("this peer runs no DHT")

// follow runs one DHT operation and collects the peers of its events of one type, and the errors.
func follow(ctx context.Context, wanted routing.QueryEventType, operation func(context.Context) error) ([]string, []string, error) {
	ctx, cancel := context.WithCancel(ctx)
	ctx, events := routing.RegisterForQueryEvents(ctx)
	peers, problems := []string{}, []string{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range events {
			switch event.Type {
			case wanted:
				peers = append(peers, event.ID.String())
			case routing.QueryError:
				problems = append(problems, fmt.Sprintf("%s: %s", event.ID, event.Extra))
			}
		}
	}()
	err := operation(ctx)
	cancel()
	<-done
	return peers, problems, err
}

// put: `stored` are the peers that were sent the value; go does not say who took it.
func put(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	value, err := base64.StdEncoding.DecodeString(arguments.Value)
	if err != nil {
		return nil, err
	}
	stored, problems, err := follow(ctx, routing.Value, func(ctx context.Context) error {
		return node.dht.PutValue(ctx, arguments.Key, value)
	})
	return object{"stored": stored, "errors": problems}, err
}

func get(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	var value []byte
	answered, problems, err := follow(ctx, routing.PeerResponse, func(ctx context.Context) (err error) {
		value, err = node.dht.GetValue(ctx, arguments.Key)
		return err
	})
	if errors.Is(err, routing.ErrNotFound) {
		return object{"value_b64": nil, "answered": answered, "errors": problems}, nil
	}
	return object{"value_b64": base64.StdEncoding.EncodeToString(value), "answered": answered, "errors": problems}, err
}

func providerKey(arguments Arguments) (cid.Cid, error) {
	if arguments.CID != "" {
		return cid.Decode(arguments.CID)
	}
	key, err := base64.StdEncoding.DecodeString(arguments.ProviderKey)
	if err != nil {
		return cid.Undef, err
	}
	hash, err := multihash.Cast(key)
	return cid.NewCidV1(cid.Raw, hash), err
}

func provide(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	key, err := providerKey(arguments)
	if err != nil {
		return nil, err
	}
	return object{"errors": []string{}}, node.dht.Provide(ctx, key, true)
}

func findProviders(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	key, err := providerKey(arguments)
	if err != nil {
		return nil, err
	}
	found := []object{}
	for provider := range node.dht.FindProvidersAsync(ctx, key, 20) {
		found = append(found, wirePeer(provider))
	}
	return object{"providers": found, "errors": []string{}}, ctx.Err()
}

func findPeer(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	found, err := node.dht.FindPeer(ctx, id)
	if errors.Is(err, routing.ErrNotFound) {
		return object{"peer": nil, "errors": []string{}}, nil
	}
	return object{"peer": wirePeer(found), "errors": []string{}}, err
}

func routingTable(_ context.Context, node *Node, _ Arguments) (any, error) {
	if node.dht == nil {
		return nil, errNoDHT
	}
	peers := []string{}
	for _, id := range node.dht.RoutingTable().ListPeers() {
		peers = append(peers, id.String())
	}
	return peers, nil
}

func wirePeer(info peer.AddrInfo) object {
	return object{"peer_id": info.ID.String(), "addresses": texts(info.Addrs)}
}

func texts(addresses []multiaddr.Multiaddr) []string {
	all := make([]string, len(addresses))
	for i, address := range addresses {
		all[i] = address.String()
	}
	return all
}

// ---- measuring ----

// dialbench dials `addr` with n fresh identities; only the dialling is timed (it includes identify, as go's Connect
// waits for it). With `keep` the connections stay open.
func dialbench(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	target, err := peer.AddrInfoFromString(arguments.Addr)
	if err != nil {
		return nil, err
	}
	dialers := make(chan host.Host, arguments.N)
	for range arguments.N {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return nil, err
		}
		dialer, err := libp2p.New(append(transportOptions(Config{}, key), libp2p.NoListenAddrs)...)
		if err != nil {
			return nil, err
		}
		dialers <- dialer
	}
	close(dialers)
	problems := map[string]int{}
	connected := 0
	used := []host.Host{}
	var lock sync.Mutex
	var workers sync.WaitGroup
	start := time.Now()
	for range max(arguments.Concurrency, 1) {
		workers.Go(func() {
			for dialer := range dialers {
				err := dialer.Connect(ctx, *target)
				lock.Lock()
				used = append(used, dialer)
				if err == nil {
					connected++
				} else {
					problems[err.Error()]++
				}
				lock.Unlock()
			}
		})
	}
	workers.Wait()
	elapsed := milliseconds(start)
	node.keptLock.Lock()
	node.kept = append(node.kept, used...)
	node.keptLock.Unlock()
	if !arguments.Keep {
		_, _ = release(ctx, node, arguments)
	}
	return object{"connected": connected, "errors": problems, "ms": elapsed, "rate": float64(connected) / elapsed * 1000}, nil
}

// release closes what dialbench kept.
func release(_ context.Context, node *Node, _ Arguments) (any, error) {
	node.keptLock.Lock()
	kept := node.kept
	node.kept = nil
	node.keptLock.Unlock()
	for _, dialer := range kept {
		_ = dialer.Close()
	}
	return len(kept), nil
}

func mem(context.Context, *Node, Arguments) (any, error) {
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	rss := uint64(0)
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if pages, err := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64); err == nil {
			rss = pages * uint64(os.Getpagesize())
		}
	}
	return object{"rss": rss, "heap": stats.HeapAlloc}, nil
}

func cpu(context.Context, *Node, Arguments) (any, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return nil, err
	}
	seconds := func(value syscall.Timeval) float64 { return time.Duration(value.Nano()).Seconds() }
	return object{"user": seconds(usage.Utime), "system": seconds(usage.Stime)}, nil
}

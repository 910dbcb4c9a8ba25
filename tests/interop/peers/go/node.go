package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

const chunkSize = 64 * 1024

// Config is the JSON given on the command line.
type Config struct {
	Listen      []string `json:"listen"`
	SeedHex     string   `json:"seed_hex"`
	Agent       string   `json:"agent"`
	DHTProtocol *string  `json:"dht_protocol"` // null: no DHT
	DHTMode     string   `json:"dht_mode"`     // "server" or "client"
	// The resource manager's own limits, as a node in the wild has them; else there are none.
	DefaultLimits bool `json:"default_limits"`
	QUIC          bool `json:"quic"`
	RelayClient   bool `json:"relay_client"` // dials and is dialled through relays
	// Upgrades relayed connections (DCUtR). It then takes itself to be behind a NAT.
	HolePunching bool         `json:"hole_punching"`
	StaticRelays []string     `json:"static_relays"` // it keeps reservations there
	Relay        *RelayConfig `json:"relay"`         // null: it is no relay
	AutoNAT      bool         `json:"autonat"`       // AutoNAT v2, both directions
}

func defaultConfig() Config {
	dhtProtocol := "/wws/kad/1.0.0"
	return Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, DHTProtocol: &dhtProtocol, DHTMode: "server"}
}

// Node is one libp2p host with what the commands need around it.
type Node struct {
	host       host.Host
	dht        *dht.IpfsDHT // nil when the config says so
	identified *identified
	autonat    *autonatv2.AutoNAT // nil when the config says so
	kept       []host.Host        // by dialbench
	keptLock   sync.Mutex
}

func transportOptions(config Config, key crypto.PrivKey) []libp2p.Option {
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.DisableMetrics(),
	}
	options = append(options, relayOptions(config)...)
	if config.QUIC {
		options = append(options, libp2p.Transport(quic.NewTransport))
	}
	if !config.DefaultLimits {
		options = append(options, libp2p.ResourceManager(&network.NullResourceManager{}))
	}
	return options
}

func newNode(config Config) (*Node, error) {
	seed := make([]byte, ed25519.SeedSize)
	if config.SeedHex == "" {
		_, _ = rand.Read(seed)
	} else {
		var err error
		if seed, err = hex.DecodeString(config.SeedHex); err != nil || len(seed) != ed25519.SeedSize {
			return nil, errors.New("seed_hex must be 32 bytes in hex")
		}
	}
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(seed))
	if err != nil {
		return nil, err
	}
	options := append(transportOptions(config, key), libp2p.ListenAddrStrings(config.Listen...))
	if config.Agent != "" {
		options = append(options, libp2p.UserAgent(config.Agent))
	}
	host, err := libp2p.New(options...)
	if err != nil {
		return nil, err
	}
	node := &Node{host: host}
	if err := node.serveNAT(config); err != nil {
		return nil, err
	}
	if node.identified, err = followIdentify(host); err != nil {
		return nil, err
	}
	for name, handler := range map[protocol.ID]func(network.Stream) error{
		"/test/echo/1":    echo,
		"/test/sink/1":    func(stream network.Stream) error { return sink(stream, 0) },
		"/test/slow/1":    func(stream network.Stream) error { return sink(stream, 20*time.Millisecond) },
		"/test/reverse/1": reverse,
		"/test/reset/1":   readAndReset,
		"/test/deaf/1":    deaf,
	} {
		host.SetStreamHandler(name, serve(handler))
	}
	if config.DHTProtocol != nil {
		mode := dht.ModeServer
		if config.DHTMode == "client" {
			mode = dht.ModeClient
		}
		prefix := strings.TrimSuffix(*config.DHTProtocol, "/kad/1.0.0")
		options := []dht.Option{dht.Mode(mode), dht.ProtocolPrefix(protocol.ID(prefix))}
		if prefix != "/ipfs" { // there go insists on the validators of the public network
			options = append(options, dht.Validator(record.NamespacedValidator{"wws": refuseBad{}}))
		}
		node.dht, err = dht.New(host, options...)
		if err != nil {
			return nil, err
		}
	}
	return node, nil
}

// refuseBad takes any value that does not start with "BAD"; a newer one replaces an older one.
type refuseBad struct{}

func (refuseBad) Validate(_ string, value []byte) error {
	if bytes.HasPrefix(value, []byte("BAD")) {
		return errors.New("the value starts with BAD")
	}
	return nil
}

func (refuseBad) Select(string, [][]byte) (int, error) { return 0, nil }

func (node *Node) addresses() []string {
	addresses := []string{}
	for _, address := range node.host.Addrs() {
		addresses = append(addresses, fmt.Sprintf("%s/p2p/%s", address, node.host.ID()))
	}
	return addresses
}

// ---- served protocols ----

func serve(handler func(network.Stream) error) network.StreamHandler {
	return func(stream network.Stream) {
		if err := handler(stream); err != nil {
			_ = stream.Reset()
			return
		}
		_ = stream.Close()
	}
}

// echo sends back what comes, reading no faster than it can write.
func echo(stream network.Stream) error {
	_, err := io.CopyBuffer(stream, stream, make([]byte, chunkSize))
	return err
}

// sink counts bytes until the end, pausing after each 64 KiB, and answers the count in decimal.
func sink(stream network.Stream, pause time.Duration) error {
	buffer := make([]byte, chunkSize)
	count := 0
	for {
		n, err := io.ReadFull(stream, buffer)
		count += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return err
		}
		time.Sleep(pause)
	}
	_, err := stream.Write([]byte(strconv.Itoa(count)))
	return err
}

// reverse reads to the end, then answers everything reversed: it needs a half-close.
func reverse(stream network.Stream) error {
	data, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	slices.Reverse(data)
	_, err = stream.Write(data)
	return err
}

// readAndReset reads something, then resets.
func readAndReset(stream network.Stream) error {
	if _, err := stream.Read(make([]byte, chunkSize)); err != nil {
		return err
	}
	return errors.New("reset, as the protocol says")
}

// deaf reads something and stops reading, which QUIC tells the writer, and then answers.
func deaf(stream network.Stream) error {
	if _, err := stream.Read(make([]byte, chunkSize)); err != nil {
		return err
	}
	if err := stream.CloseRead(); err != nil {
		return err
	}
	_, err := stream.Write([]byte("deaf"))
	return err
}

// ---- identify ----

// identified holds the newest identify of each peer, and how many there were (a push counts).
type identified struct {
	lock    sync.Mutex
	changed chan struct{} // closed and replaced at each identify
	newest  map[peer.ID]event.EvtPeerIdentificationCompleted
	counts  map[peer.ID]int
}

func followIdentify(host host.Host) (*identified, error) {
	events, err := host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return nil, err
	}
	all := &identified{
		changed: make(chan struct{}),
		newest:  map[peer.ID]event.EvtPeerIdentificationCompleted{},
		counts:  map[peer.ID]int{},
	}
	go func() {
		for incoming := range events.Out() {
			completed := incoming.(event.EvtPeerIdentificationCompleted)
			all.lock.Lock()
			all.newest[completed.Peer] = completed
			all.counts[completed.Peer]++
			close(all.changed)
			all.changed = make(chan struct{})
			all.lock.Unlock()
		}
	}()
	return all, nil
}

// wait returns the newest identify once there have been at least `count`.
func (all *identified) wait(ctx context.Context, id peer.ID, count int) (event.EvtPeerIdentificationCompleted, int, error) {
	for {
		all.lock.Lock()
		newest, seen, changed := all.newest[id], all.counts[id], all.changed
		all.lock.Unlock()
		if seen >= max(count, 1) {
			return newest, seen, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return newest, seen, fmt.Errorf("%s did not identify in time", id)
		}
	}
}

func names(ids []protocol.ID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return texts
}

func direction(stat network.ConnStats) string { return strings.ToLower(stat.Direction.String()) }

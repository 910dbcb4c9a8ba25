package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autonat"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

// RelayConfig makes the peer a relay; zero values are go's defaults.
type RelayConfig struct {
	LimitSeconds int   `json:"limit_seconds"`
	LimitBytes   int64 `json:"limit_bytes"`
}

// relayOptions let the peer dial and be dialled through relays, and punch holes.
func relayOptions(config Config) []libp2p.Option {
	options := []libp2p.Option{}
	if config.AutoNAT {
		// Version 1, for others only: about itself the peer asks when it is commanded to.
		options = append(options, libp2p.EnableNATService(), libp2p.ForceReachabilityPublic())
	}
	if !config.RelayClient {
		return append(options, libp2p.DisableRelay())
	}
	options = append(options, libp2p.EnableRelay())
	if config.HolePunching {
		options = append(options, libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	}
	if len(config.StaticRelays) > 0 {
		relays := []peer.AddrInfo{}
		for _, text := range config.StaticRelays {
			if info, err := peer.AddrInfoFromString(text); err == nil {
				relays = append(relays, *info)
			}
		}
		options = append(options, libp2p.EnableAutoRelayWithStaticRelays(relays))
	}
	return options
}

// serveNAT starts the services that help others with their NATs.
func (node *Node) serveNAT(config Config) error {
	if config.Relay != nil {
		resources := relayv2.DefaultResources()
		resources.MaxReservationsPerIP, resources.MaxReservationsPerASN = 1024, 1024
		if config.Relay.LimitSeconds > 0 {
			resources.Limit.Duration = time.Duration(config.Relay.LimitSeconds) * time.Second
		}
		if config.Relay.LimitBytes > 0 {
			resources.Limit.Data = config.Relay.LimitBytes
		}
		everything := func(multiaddr.Multiaddr) bool { return true }
		_, err := relayv2.New(node.host, relayv2.WithResources(resources), relayv2.WithReservationAddressFilter(everything))
		if err != nil {
			return err
		}
	}
	if config.AutoNAT {
		dialer, err := dialBackHost(config)
		if err != nil {
			return err
		}
		// Both directions: it serves others, and asks for itself when `autonat_v2` is commanded.
		node.autonat, err = autonatv2.New(dialer, autonatv2.AllowPrivateAddrs, autonatv2.WithServerRateLimit(600, 600, 600, 16))
		if err != nil {
			return err
		}
		if err := node.autonat.Start(node.host); err != nil {
			return err
		}
	}
	return nil
}

// dialBackHost dials from fresh sockets under an identity of its own.
func dialBackHost(config Config) (host.Host, error) {
	options := []libp2p.Option{
		libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	}
	if config.QUIC {
		options = append(options, libp2p.Transport(quic.NewTransport))
	}
	return libp2p.New(options...)
}

// reserve asks the relay at `addr` for a reservation.
func reserve(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	relay, err := peer.AddrInfoFromString(arguments.Addr)
	if err != nil {
		return nil, err
	}
	reservation, err := client.Reserve(ctx, node.host, *relay)
	if err != nil {
		return nil, err
	}
	return object{
		"expires_in_s":  time.Until(reservation.Expiration).Seconds(),
		"addresses":     texts(reservation.Addrs),
		"limit_seconds": reservation.LimitDuration.Seconds(),
		"limit_bytes":   reservation.LimitData,
		"voucher":       reservation.Voucher != nil,
	}, nil
}

// autonatV2 asks a server among the connected peers whether `addr` of ours can be dialled.
func autonatV2(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	if node.autonat == nil {
		return nil, errors.New("autonat is off")
	}
	address, err := multiaddr.NewMultiaddr(arguments.Addr)
	if err != nil {
		return nil, err
	}
	result, err := node.autonat.GetReachability(ctx, []autonatv2.Request{{Addr: address, SendDialData: arguments.Keep}})
	if err != nil {
		return nil, err
	}
	return object{"reachability": result.Reachability.String(), "refused": result.AllAddrsRefused}, nil
}

// autonatV1 asks `peer` to dial us back at `addr`.
func autonatV1(ctx context.Context, node *Node, arguments Arguments) (any, error) {
	id, err := peer.Decode(arguments.Peer)
	if err != nil {
		return nil, err
	}
	address, err := multiaddr.NewMultiaddr(arguments.Addr)
	if err != nil {
		return nil, err
	}
	ours := func() []multiaddr.Multiaddr { return []multiaddr.Multiaddr{address} }
	if err := autonat.NewAutoNATClient(node.host, ours, nil).DialBack(ctx, id); err != nil {
		return nil, fmt.Errorf("no dial back: %w", err)
	}
	return true, nil
}

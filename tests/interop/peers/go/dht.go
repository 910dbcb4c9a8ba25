package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/multiformats/go-multihash"
)

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

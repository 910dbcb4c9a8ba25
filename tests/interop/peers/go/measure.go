package main

import (
	"context"
	"crypto/rand"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

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
		dialer, err := libp2p.New(append(transportOptions(Config{QUIC: strings.Contains(arguments.Addr, "quic-v1")}, key), libp2p.NoListenAddrs)...)
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

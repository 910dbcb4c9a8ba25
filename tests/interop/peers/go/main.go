// A go-libp2p peer for the interoperability tests.
//
//	peer <control port, 0 for any> '<json config>'
//
// The first line on stdout is {"ready": true, "control": port, "peer_id": ..., "addresses": [...]}.
// After it, POST {"cmd": ..., ...} to the control port answers {"ok": ...} or {"error": "..."}.
// The process ends when its standard input closes, so none is left behind.
//
// The JavaScript peer (../js/peer.mjs) answers the same commands; they are described in ../README.md.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 1 || len(arguments) > 2 {
		return fmt.Errorf("usage: peer <control port or 0> ['<json config>']")
	}
	config := defaultConfig()
	if len(arguments) == 2 {
		if err := json.Unmarshal([]byte(arguments[1]), &config); err != nil {
			return fmt.Errorf("the config: %w", err)
		}
	}
	node, err := newNode(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", arguments[0]))
	if err != nil {
		return err
	}
	ready := map[string]any{
		"ready":     true,
		"control":   listener.Addr().(*net.TCPAddr).Port,
		"peer_id":   node.host.ID().String(),
		"addresses": node.addresses(),
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		var answer map[string]any
		if result, err := node.answer(request); err != nil {
			answer = map[string]any{"error": err.Error()}
		} else {
			answer = map[string]any{"ok": result}
		}
		_ = json.NewEncoder(response).Encode(answer)
	}))
}

// Arguments of all commands; each command reads its own.
type Arguments struct {
	Cmd         string  `json:"cmd"`
	Addr        string  `json:"addr"`
	Peer        string  `json:"peer"`
	Protocol    string  `json:"protocol"`
	N           int     `json:"n"`
	Bytes       int     `json:"bytes"`
	Data        *string `json:"data_b64"`
	Key         string  `json:"key"`
	Value       string  `json:"value_b64"`
	CID         string  `json:"cid"`
	ProviderKey string  `json:"key_b64"`
	Count       int     `json:"count"`
	Concurrency int     `json:"concurrency"`
	Keep        bool    `json:"keep"`
	TimeoutMS   int     `json:"timeout_ms"`
}

func (node *Node) answer(request *http.Request) (any, error) {
	var arguments Arguments
	if err := json.NewDecoder(request.Body).Decode(&arguments); err != nil {
		return nil, err
	}
	command, known := commands[arguments.Cmd]
	if !known {
		return nil, fmt.Errorf("no command %q", arguments.Cmd)
	}
	timeout := 20 * time.Second
	if arguments.Cmd == "upload" || arguments.Cmd == "dialbench" {
		timeout = 120 * time.Second
	}
	if arguments.TimeoutMS > 0 {
		timeout = time.Duration(arguments.TimeoutMS) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(request.Context(), timeout)
	defer cancel()
	return command(ctx, node, arguments)
}

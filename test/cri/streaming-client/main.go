// streaming-client is Kubernetes' own client of exec, attach and port-forward streams, for the tests of the streaming
// server: what kubectl and crictl are built on.
//
//	streaming-client command -url URL [-protocol P] [-stdin] [-stdout] [-stderr] [-tty] [-sizes 80x24,100x30]
//	streaming-client forward -url URL [-tunnel] PORT...
//	streaming-client drop [-protocol P]        URLs on standard input; each session is cut off after its first output
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: streaming-client command|forward|drop"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var o options
	flags.StringVar(&o.url, "url", "", "where the server's answer points")
	flags.StringVar(&o.protocol, "protocol", "spdy", "spdy, websocket, or spdy:NAME and websocket:NAME for one version")
	flags.BoolVar(&o.stdin, "stdin", false, "pass standard input on")
	flags.BoolVar(&o.stdout, "stdout", false, "ask for standard output")
	flags.BoolVar(&o.stderr, "stderr", false, "ask for standard error")
	flags.BoolVar(&o.tty, "tty", false, "ask for a terminal")
	flags.StringVar(&o.sizes, "sizes", "", "sizes of the terminal, one after another on each line of standard error")
	flags.BoolVar(&o.tunnel, "tunnel", false, "forward by SPDY in a WebSocket")
	_ = flags.Parse(os.Args[2:])
	switch os.Args[1] {
	case "command":
		command(o)
	case "forward":
		forward(o, flags.Args())
	case "drop":
		drop(o)
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

type options struct {
	url, protocol, sizes               string
	stdin, stdout, stderr, tty, tunnel bool
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "client:", err)
	os.Exit(255)
}

func executor(o options, address string) (remotecommand.Executor, error) {
	config := &rest.Config{}
	kind, version, one := strings.Cut(o.protocol, ":")
	if kind == "websocket" {
		if one {
			return remotecommand.NewWebSocketExecutorForProtocols(config, "GET", address, version)
		}
		return remotecommand.NewWebSocketExecutor(config, "GET", address)
	}
	at, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if !one {
		return remotecommand.NewSPDYExecutor(config, "POST", at)
	}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", at, version)
}

type sizeQueue chan remotecommand.TerminalSize

func (q sizeQueue) Next() *remotecommand.TerminalSize {
	size, ok := <-q
	if !ok {
		return nil
	}
	return &size
}

// sizes are given to the server one by one: the next when the program has written a line about the last.
type sizes struct {
	out   io.Writer
	queue sizeQueue
	left  []remotecommand.TerminalSize
}

func (s *sizes) next() {
	if len(s.left) == 0 {
		return
	}
	s.queue <- s.left[0]
	s.left = s.left[1:]
}

func (s *sizes) Write(data []byte) (int, error) {
	for range strings.Count(string(data), "\n") {
		s.next()
	}
	return s.out.Write(data)
}

func command(o options) {
	e, err := executor(o, o.url)
	if err != nil {
		fail(err)
	}
	stream := remotecommand.StreamOptions{Tty: o.tty}
	if o.stdin {
		stream.Stdin = os.Stdin
	}
	if o.stdout {
		stream.Stdout = os.Stdout
	}
	if o.stderr {
		stream.Stderr = os.Stderr
	}
	if o.sizes != "" {
		s := &sizes{out: os.Stdout, queue: make(sizeQueue, 100)}
		for _, text := range strings.Split(o.sizes, ",") {
			var size remotecommand.TerminalSize
			if _, err := fmt.Sscanf(text, "%dx%d", &size.Width, &size.Height); err != nil {
				fail(err)
			}
			s.left = append(s.left, size)
		}
		s.next()
		stream.TerminalSizeQueue = s.queue
		stream.Stdout = s
	}
	err = e.StreamWithContext(context.Background(), stream)
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		os.Exit(exit.Code)
	}
	if err != nil {
		fail(err)
	}
}

// firstWrite is cancelled by the first output.
type firstWrite struct{ cancel context.CancelFunc }

func (f firstWrite) Write(data []byte) (int, error) {
	f.cancel()
	return len(data), nil
}

func drop(o options) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		e, err := executor(o, lines.Text())
		if err != nil {
			fail(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		err = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: firstWrite{cancel}, Stdin: blocked{ctx}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			fail(fmt.Errorf("a session ended by itself: %v", err))
		}
		fmt.Println("dropped")
	}
}

// blocked gives no input until the session is over.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, io.EOF
}

func forward(o options, ports []string) {
	at, err := url.Parse(o.url)
	if err != nil {
		fail(err)
	}
	config := &rest.Config{}
	var dialer httpstream.Dialer
	if o.tunnel {
		dialer, err = portforward.NewSPDYOverWebsocketDialer(at, config)
	} else {
		var transport http.RoundTripper
		var upgrader spdy.Upgrader
		transport, upgrader, err = spdy.RoundTripperFor(config)
		dialer = spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", at)
	}
	if err != nil {
		fail(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, os.Stdout, os.Stderr)
	if err != nil {
		fail(err)
	}
	if err := forwarder.ForwardPorts(); err != nil {
		fail(err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"time"
)

// request is what both clients are told.
type request struct {
	proto, url, dial, method string
	headers                  list
}

type list []string

func (l *list) String() string         { return strings.Join(*l, ", ") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func (r *request) flags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&r.proto, "proto", "h2c", "h1, or h2c for HTTP/2 with prior knowledge")
	flags.StringVar(&r.url, "url", "", "what to ask for")
	flags.StringVar(&r.dial, "dial", "", "address and port to connect to, whatever the URL says")
	flags.StringVar(&r.method, "method", "", "GET, or POST with a body")
	flags.Var(&r.headers, "header", "NAME=VALUE; may be repeated")
	return flags
}

func (r *request) client() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(r.proto == "h1")
	protocols.SetUnencryptedHTTP2(r.proto == "h2c")
	dialer := net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if r.dial != "" {
			address = r.dial
		}
		return dialer.DialContext(ctx, network, address)
	}
	return &http.Client{Transport: transport}
}

func (r *request) build(ctx context.Context, body io.Reader) (*http.Request, error) {
	method := r.method
	if method == "" && body != nil {
		method = http.MethodPost
	}
	built, err := http.NewRequestWithContext(ctx, method, r.url, body)
	if err != nil {
		return nil, err
	}
	for _, header := range r.headers {
		name, value, _ := strings.Cut(header, "=")
		built.Header.Add(name, value)
	}
	return built, nil
}

// answer is one line of JSON on standard output.
type answer struct {
	Status   int         `json:"status"`
	Protocol string      `json:"protocol"`
	Headers  [][2]string `json:"headers"`
	Trailers [][2]string `json:"trailers"`
	Bytes    int64       `json:"bytes"`
	Body     string      `json:"body"`
	Interim  []int       `json:"interim"`
	Rounds   int         `json:"rounds"`
}

// call makes requests one after the other over one client, and prints an answer for each.
func call(arguments []string) error {
	var r request
	flags := r.flags("call")
	size := flags.Int("size", 0, "bytes of body to send")
	withTrailers := flags.Bool("trailers", false, "send the trailer x-sent: yes after the body")
	repeat := flags.Int("repeat", 1, "how often")
	flags.Parse(arguments)
	client := r.client()
	for range *repeat {
		if err := callOnce(&r, client, *size, *withTrailers); err != nil {
			return err
		}
	}
	return nil
}

func callOnce(r *request, client *http.Client, size int, withTrailers bool) error {
	var got answer
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			got.Interim = append(got.Interim, code)
			return nil
		},
	})
	var body io.Reader
	if size > 0 || withTrailers {
		body = bytes.NewReader(bytes.Repeat([]byte("x"), size))
	}
	request, err := r.build(ctx, body)
	if err != nil {
		return err
	}
	if withTrailers {
		request.ContentLength = -1
		request.Trailer = http.Header{"X-Sent": {"yes"}}
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return got.print(response)
}

// duplex sends a message only after the one before has come back, all within one request.
func duplex(arguments []string) error {
	var r request
	flags := r.flags("duplex")
	rounds := flags.Int("rounds", 10, "how many messages")
	flags.Parse(arguments)
	reader, writer := io.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := r.build(ctx, reader)
	if err != nil {
		return err
	}
	response, err := r.client().Do(request)
	if err != nil {
		return err
	}
	got := answer{}
	for ; got.Rounds < *rounds; got.Rounds++ {
		message := fmt.Appendf(nil, "message %d\n", got.Rounds)
		if _, err := writer.Write(message); err != nil {
			return err
		}
		back := make([]byte, len(message))
		if _, err := io.ReadFull(response.Body, back); err != nil {
			return fmt.Errorf("round %d: %w", got.Rounds, err)
		}
		if !bytes.Equal(message, back) {
			return fmt.Errorf("round %d: %q came back as %q", got.Rounds, message, back)
		}
	}
	writer.Close()
	return got.print(response)
}

// print reads the rest of the response, after which its trailers are known. Only short bodies are shown.
func (a answer) print(response *http.Response) error {
	defer response.Body.Close()
	var start bytes.Buffer
	short, err := io.CopyN(&start, response.Body, 4096)
	if err != nil && err != io.EOF {
		return err
	}
	rest, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		return err
	}
	a.Status, a.Protocol, a.Bytes = response.StatusCode, response.Proto, short+rest
	a.Headers, a.Trailers = pairs(response.Header), pairs(response.Trailer)
	if rest == 0 {
		a.Body = start.String()
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

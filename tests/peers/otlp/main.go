// A receiver of traces by OTLP over gRPC that is nobody's here: OpenTelemetry's own decoder (the Collector's) behind
// gRPC's own server, which ask for the method's right name, for good HPACK and for good messages.
//
//	trama-otlp-receiver -listen 127.0.0.1:0 [-certificate PEM -key PEM [-clients PEM]] [-silent]
//	trama-otlp-receiver -version
//
// Prints `listening ADDRESS:PORT`, `connected` for each connection, and `span JSON` for each span.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// version tells one source of this program from another. Who builds it says it.
var version = "unknown"

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address and port")
	certificate := flag.String("certificate", "", "own certificate; without one it speaks no TLS")
	key := flag.String("key", "", "its key")
	clients := flag.String("clients", "", "authorities whose certificate a client must show")
	silent := flag.Bool("silent", false, "read everything and never answer")
	asked := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *asked {
		fmt.Println(version)
		return
	}
	if err := serve(*listen, *certificate, *key, *clients, *silent); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(listen, certificate, key, clients string, silent bool) error {
	options := []grpc.ServerOption{grpc.StatsHandler(connections{})}
	if certificate != "" {
		sealed, err := transport(certificate, key, clients)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(sealed))
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	ptraceotlp.RegisterGRPCServer(server, &receiver{silent: silent})
	tell("listening", listener.Addr().String())
	return server.Serve(listener)
}

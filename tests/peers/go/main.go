// A peer in Go: an HTTP server and client whose HTTP/2 is nobody's here. Standard library only.
//
//	peer serve -listen 127.0.0.1:0 -served-by NAME [-tls FOLDER]
//	peer call -proto h1|h2c -url URL [-dial ADDRESS] [-method M] [-header K=V]... [-size N] [-trailers] [-repeat N]
//	peer duplex -proto h1|h2c -url URL [-dial ADDRESS] [-rounds N]
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{"serve": serve, "call": call, "duplex": duplex}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer serve|call|duplex ...")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

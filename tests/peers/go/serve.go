package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// serve answers HTTP/1.1 and HTTP/2 with prior knowledge on one port, or both over TLS. Its pages are those of app.py.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address and port")
	servedBy := flags.String("served-by", "go", "value of x-served-by")
	files := flags.String("tls", "", "folder of server.pem, server.key and, if clients need a certificate, clients.pem")
	flags.Parse(arguments)

	pages := http.NewServeMux()
	pages.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s\n", *servedBy) })
	pages.HandleFunc("/echo", echo)
	pages.HandleFunc("/headers", headers)
	pages.HandleFunc("/trailers", trailers)
	pages.HandleFunc("/hints", hints)
	pages.HandleFunc("/bytes/{n}", func(w http.ResponseWriter, r *http.Request) { send(w, number(r)) })
	pages.HandleFunc("/status/{n}", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(int(number(r))) })
	pages.HandleFunc("/slow/{n}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(number(r)) * time.Millisecond)
		io.WriteString(w, "slept\n")
	})
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-served-by", *servedBy)
		pages.ServeHTTP(w, r)
	})

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: named, Protocols: &protocols}
	if *files == "" {
		fmt.Println("listening", listener.Addr())
		return server.Serve(listener)
	}
	protocols.SetUnencryptedHTTP2(false)
	protocols.SetHTTP2(true)
	if server.TLSConfig, err = clientAuth(*files); err != nil {
		return err
	}
	fmt.Println("listening", listener.Addr())
	return server.ServeTLS(listener, filepath.Join(*files, "server.pem"), filepath.Join(*files, "server.key"))
}

// clientAuth demands certificates from clients if there is a file of authorities for them.
func clientAuth(folder string) (*tls.Config, error) {
	authorities, err := os.ReadFile(filepath.Join(folder, "clients.pem"))
	if os.IsNotExist(err) {
		return &tls.Config{}, nil
	}
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(authorities) {
		err = errors.New("clients.pem holds no certificate")
	}
	return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, err
}

// echo returns each piece of the body as soon as it comes, while more of it is on its way.
func echo(w http.ResponseWriter, r *http.Request) {
	flusher := http.NewResponseController(w)
	flusher.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	flusher.Flush()
	piece := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(piece)
		w.Write(piece[:n])
		flusher.Flush()
		if err != nil {
			return
		}
	}
}

func headers(w http.ResponseWriter, r *http.Request) {
	answer := map[string]any{
		"method": r.Method, "path": r.RequestURI, "protocol": r.Proto, "authority": r.Host,
		"headers": pairs(r.Header), "served_by": w.Header().Get("x-served-by"),
	}
	answer["peer"], _, _ = net.SplitHostPort(r.RemoteAddr)
	w.Header().Set("content-type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func trailers(w http.ResponseWriter, r *http.Request) {
	digest := sha256.New()
	io.Copy(digest, r.Body)
	w.Header().Set("trailer", "x-body-sha256, x-last")
	json.NewEncoder(w).Encode(map[string]any{"trailers": pairs(r.Trailer)})
	w.Header().Set("x-body-sha256", hex.EncodeToString(digest.Sum(nil)))
	w.Header().Set("x-last", "yes")
}

func hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	io.WriteString(w, "after the hints\n")
}

func send(w http.ResponseWriter, left int64) {
	w.Header().Set("content-length", strconv.FormatInt(left, 10))
	block := bytes.Repeat([]byte("x"), 64<<10)
	for left > 0 {
		n, err := w.Write(block[:min(left, int64(len(block)))])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

func number(r *http.Request) int64 {
	n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
	return n
}

// pairs lists header fields in order of their lower-case names.
func pairs(header http.Header) [][2]string {
	found := [][2]string{}
	for name, values := range header {
		for _, value := range values {
			found = append(found, [2]string{strings.ToLower(name), value})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i][0] < found[j][0] })
	return found
}

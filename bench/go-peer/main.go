// The Go peer: what a reverse proxy with a token check is made of in Go, and nothing more.
// httputil.ReverseProxy as the standard library has it, golang-jwt for RS256, keys loaded once.
package main

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"math/big"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// loadKeys returns the RSA keys of a JWKS document by their key id.
func loadKeys(address string) map[string]*rsa.PublicKey {
	response := must(http.Get(address))
	defer response.Body.Close()
	var document struct{ Keys []struct{ Kid, N, E string } }
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		log.Fatal(err)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, key := range document.Keys {
		n := must(base64.RawURLEncoding.DecodeString(key.N))
		e := must(base64.RawURLEncoding.DecodeString(key.E))
		keys[key.Kid] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	return keys
}

func main() {
	listen := flag.String("listen", "", "address to listen on")
	upstream := flag.String("upstream", "", "URL to relay to")
	jwks := flag.String("jwks", "", "URL of the realm's keys")
	issuer := flag.String("issuer", "", "issuer that tokens must name")
	idle := flag.Int("idle", 0, "idle connections kept to the upstream; 0 for what the library does by itself")
	flag.Parse()

	keys := loadKeys(*jwks)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(*issuer), jwt.WithExpirationRequired())
	target := must(url.Parse(*upstream))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if *idle > 0 { // by itself it keeps 2 to a host
		transport.MaxIdleConnsPerHost, transport.MaxIdleConns, transport.DisableCompression = *idle, *idle, true
	}
	relay := &httputil.ReverseProxy{Transport: transport, Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(target)
		request.SetXForwarded()
	}}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, err := parser.Parse(token, func(token *jwt.Token) (any, error) {
			kid, _ := token.Header["kid"].(string)
			if key, known := keys[kid]; known {
				return key, nil
			}
			return nil, errors.New("unknown key")
		})
		if err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		relay.ServeHTTP(w, r)
	})))
}

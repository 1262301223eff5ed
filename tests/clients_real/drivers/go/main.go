// A client on the Go SDK; see tests/clients_real/scene.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"
	"sort"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

const callback = "http://127.0.0.1:33418/callback"

var (
	input  = bufio.NewReader(os.Stdin)
	logins int
)

// ask says a line of JSON and reads the answer.
func ask(message any) map[string]string {
	tell(message)
	line, err := input.ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	answer := map[string]string{}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		log.Fatal(err)
	}
	return answer
}

func tell(message any) {
	text, err := json.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}

func person(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	logins++
	arrived, err := url.Parse(ask(map[string]string{"authorize": args.URL})["callback"])
	if err != nil {
		return nil, err
	}
	query := arrived.Query()
	return &auth.AuthorizationResult{Code: query.Get("code"), State: query.Get("state"), Iss: query.Get("iss")}, nil
}

type called struct {
	Text     string    `json:"text"`
	Progress []float64 `json:"progress"`
}

func call(session *mcp.ClientSession, steps *[]float64, name string, arguments map[string]any) called {
	*steps = nil
	params := &mcp.CallToolParams{Name: name, Arguments: arguments}
	params.SetProgressToken(name)
	result, err := session.CallTool(context.Background(), params)
	if err != nil {
		log.Fatal(err)
	}
	return called{result.Content[0].(*mcp.TextContent).Text, *steps}
}

func main() {
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName:              "The Go SDK",
				RedirectURIs:            []string{callback},
				TokenEndpointAuthMethod: "none",
			},
		},
		RedirectURL:              callback,
		AuthorizationCodeFetcher: person,
	})
	if err != nil {
		log.Fatal(err)
	}
	var steps []float64
	client := mcp.NewClient(&mcp.Implementation{Name: "driver", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, request *mcp.ProgressNotificationClientRequest) {
			steps = append(steps, request.Params.Progress)
		},
	})
	connect := func() *mcp.ClientSession {
		transport := &mcp.StreamableClientTransport{Endpoint: os.Args[1], OAuthHandler: handler}
		session, err := client.Connect(context.Background(), transport, nil)
		if err != nil {
			log.Fatal(err)
		}
		return session
	}

	session := connect()
	listed, err := session.ListTools(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	var tools []string
	for _, tool := range listed.Tools {
		tools = append(tools, tool.Name)
	}
	sort.Strings(tools)
	counted := call(session, &steps, "count", map[string]any{"to": 3})
	// The SDK takes a token that lives for less than ten seconds for expired: each request refreshes.
	refreshed := call(session, &steps, "whoami", nil)
	session.Close()
	ask(map[string]bool{"restart": true})
	session = connect()
	again := call(session, &steps, "whoami", nil)
	session.Close()
	tell(map[string]any{"done": map[string]any{
		"tools": tools, "counted": counted, "refreshed": refreshed, "again": again, "logins": logins,
	}})
}

// For each line on standard input: one request for the caller's identity by the AWS SDK for Go, at STS_ENDPOINT, with
// one client and the SDK's default credential chain. Says the account, or why there was none.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

type said struct {
	Account string `json:"account,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	var client *sts.Client
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		account, err := ask(&client)
		answer := said{Account: account}
		if err != nil {
			// Go's errors have the text of their causes in their own.
			answer = said{Error: strings.Join(strings.Fields(err.Error()), " ")}
		}
		if out.Encode(answer) != nil {
			os.Exit(1)
		}
	}
}

// The client is made for the first line, and again after a line for which it could not be made.
func ask(client **sts.Client) (string, error) {
	ctx := context.Background()
	if *client == nil {
		settings, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return "", err
		}
		*client = sts.NewFromConfig(settings, func(options *sts.Options) {
			options.BaseEndpoint = aws.String(os.Getenv("STS_ENDPOINT"))
			options.Retryer = aws.NopRetryer{}
		})
	}
	identity, err := (*client).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return aws.ToString(identity.Account), nil
}

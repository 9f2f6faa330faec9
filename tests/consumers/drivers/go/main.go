// For each line on standard input: calls GetCallerIdentity at STS_ENDPOINT with the AWS SDK for Go, one client and the
// default credential chain. Prints the account or the error.
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

type result struct {
	Account string `json:"account,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	var client *sts.Client
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		account, err := ask(&client)
		answer := result{Account: account}
		if err != nil {
			// The text of a Go error includes its causes.
			answer = result{Error: strings.Join(strings.Fields(err.Error()), " ")}
		}
		if out.Encode(answer) != nil {
			os.Exit(1)
		}
	}
}

// Creates the client for the first line, and tries again after a line for which that failed.
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

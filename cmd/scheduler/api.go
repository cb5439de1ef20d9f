package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/api"
)

const apiKeysHelp = `Makes an access key that nobody guesses, and prints the lines for api.clients.
Nothing is stored. To replace a key: add a second one with the same role, send
the daemons SIGHUP, give it to the client, remove the first one, SIGHUP again.`

func newAPICommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:   "api",
		Short: "Make access keys for the mPaaS API in front",
		Args:  cobra.NoArgs,
		RunE:  chooseSubcommand,
	}
	keys := &cobra.Command{
		Use:     "keys",
		Short:   "Make an access key for a client",
		Long:    apiKeysHelp,
		Example: "  scheduler api keys --role crm",
		Args:    cobra.NoArgs,
	}
	role := keys.Flags().String("role", "", "the database `ROLE` whose rights the key has")
	keys.RunE = func(*cobra.Command, []string) error {
		id, secret := api.NewAccessKey()
		name := *role
		if name == "" {
			name = "# the database role whose rights the key has"
		}
		return p.print(fmt.Sprintf("api:\n  clients:\n    - access_key_id: %s\n      access_key_secret: %s\n      role: %s\n", id, secret, name))
	}
	c.AddCommand(keys)
	return c
}

// Saves every event exactly once in a database: consumer DATABASE ENDPOINT...
package main

import (
	"context"
	"log"
	"os"

	quorumwatch "quorumwatch.dev/client"
	"quorumwatch.dev/client/sqlite"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: consumer DATABASE ENDPOINT...")
	}
	ctx := context.Background()
	store, err := sqlite.Open(os.Args[1])
	check(err)
	kept, err := store.Kept(ctx)
	check(err)
	options := quorumwatch.Options{Endpoints: os.Args[2:], Kept: kept}
	subscription, err := quorumwatch.Subscribe(ctx, options)
	check(err)
	for frames, err := range subscription.Batches(ctx) {
		check(err)
		check(store.Save(ctx, frames))
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	tcpostgres "github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	defaultImage = "postgres:17-alpine"
	// engineTimeout is how long a Docker engine may take to answer at all.
	engineTimeout = 5 * time.Second
	// registryTimeout is how long a registry may take to say that it has the
	// image; after that the download may take its time. Behind a firewall an
	// engine would try for minutes.
	registryTimeout = 5 * time.Second
	// containerTimeout is how long a container may take to be reached.
	containerTimeout = 30 * time.Second
)

// openDocker runs the image in a container, after making sure that it is there.
func openDocker(ctx context.Context) (url, from string, end func() error, err error) {
	// The reaper is an image of its own, which cannot be had offline, and which
	// Main makes needless. The variable is read once, when the provider is made.
	if os.Getenv("TESTCONTAINERS_RYUK_DISABLED") == "" {
		if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
			return "", "", nil, err
		}
	}
	tclog.SetDefault(log.New(io.Discard, "", 0)) // the errors say it all
	image := os.Getenv("TEST_DATABASE_IMAGE")
	if image == "" {
		image = defaultImage
	}
	if err := ensureImage(ctx, image); err != nil {
		return "", "", nil, err
	}
	return runContainer(ctx, image)
}

// ensureImage pulls the image unless the engine has it.
func ensureImage(ctx context.Context, image string) (err error) {
	defer func() { // testcontainers panics where it finds no engine
		if r := recover(); r != nil {
			err = fmt.Errorf("no Docker engine: %v", r)
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return fmt.Errorf("no Docker engine: %w", err)
	}
	defer provider.Close()
	probe, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	if err := provider.Health(probe); err != nil {
		return fmt.Errorf("no Docker engine answers: %w", err)
	}
	if _, err := provider.Client().ImageInspect(probe, image); err == nil {
		return nil
	}
	if err := pull(ctx, provider.Client(), image); err != nil {
		return fmt.Errorf("image %s is not there and cannot be pulled: %w", image, err)
	}
	return nil
}

// pull gives up when the registry is silent for registryTimeout. The engine's
// answer begins when it has read the image's manifest.
func pull(ctx context.Context, engine client.APIClient, image string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(registryTimeout, func() { cancel(errors.New("no registry answers")) })
	defer silence.Stop()
	progress, err := engine.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	for message, err := range progress.JSONMessages(ctx) {
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if message.Error != nil {
			return message.Error
		}
		silence.Reset(time.Minute) // a stalled download
	}
	return context.Cause(ctx)
}

func runContainer(ctx context.Context, image string) (url, from string, end func() error, err error) {
	container, err := tcpostgres.Run(ctx, image,
		tcpostgres.WithDatabase("postgres"),
		// In memory, as openLocal does where it can.
		testcontainers.WithEnv(map[string]string{"PGDATA": "/pgdata"}),
		testcontainers.WithTmpfs(map[string]string{"/pgdata": "rw"}),
		testcontainers.WithWaitStrategyAndDeadline(containerTimeout,
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2), // the first is the entrypoint's
			wait.ForListeningPort("5432/tcp")),
		testcontainers.WithCmd("postgres", "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
			"-c", "max_connections=300", "-c", "max_wal_size=4GB"))
	end = func() error { return testcontainers.TerminateContainer(container) } // nothing to do for nil
	if err != nil {
		return "", "", nil, errors.Join(fmt.Errorf("image %s: %w", image, err), end())
	}
	url, err = container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return "", "", nil, errors.Join(err, end())
	}
	return url, "Docker image " + image, end, nil
}

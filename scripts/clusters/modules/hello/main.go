// A web server for the tests of the cluster: it answers with its version and its pod. Once it is told to end, it
// finishes the requests that it has.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	version, pod := os.Getenv("VERSION"), os.Getenv("HOSTNAME")
	healthy := os.Getenv("MODE") != "sick"
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		if !healthy {
			answer.WriteHeader(http.StatusInternalServerError)
		}
	})
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		answer.Header().Set("X-Version", version)
		fmt.Fprintln(answer, version, pod)
	})

	server := &http.Server{Addr: ":8080"}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	finished := make(chan struct{})
	go func() {
		<-told.Done()
		patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Shutdown(patience)
		close(finished)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-finished
}

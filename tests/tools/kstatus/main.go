// kstatus says what Flux, and others that use its rules, take a Kubernetes object for: it reads the object as JSON and prints the status.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	seen := &unstructured.Unstructured{}
	if err := seen.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("not an object: %w", err)
	}
	result, err := status.Compute(seen)
	if err != nil {
		return fmt.Errorf("failed to compute: %w", err)
	}
	fmt.Println(result.Status)
	return nil
}

package quorumwatch

import (
	"os"
	"strings"
	"testing"
)

func TestTheReadmeShowsTheHeartOfTheConsumer(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := os.ReadFile("examples/consumer/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, heart, _ := strings.Cut(string(consumer), "ctx := context.Background()\n")
	heart, _, _ = strings.Cut(heart, "}\n\nfunc check")
	if !strings.Contains(string(readme), "```go\n"+heart+"```") {
		t.Error("README.md does not show what examples/consumer/main.go does")
	}
}

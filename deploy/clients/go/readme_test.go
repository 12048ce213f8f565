package quorumwatch

import (
	"os"
	"strings"
	"testing"
)

func TestTheReadmeShowsTheCoreOfTheConsumer(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := os.ReadFile("examples/consumer/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, core, _ := strings.Cut(string(consumer), "ctx := context.Background()\n")
	core, _, _ = strings.Cut(core, "}\n\nfunc check")
	if !strings.Contains(string(readme), "```go\n"+core+"```") {
		t.Error("README.md does not show what examples/consumer/main.go does")
	}
}

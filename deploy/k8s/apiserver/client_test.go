package apiserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

func TestAnAnswerThatIsTooLongIsNotTakenForAll(t *testing.T) {
	for size, ok := range map[int]bool{1000: true, 1001: false} {
		tries := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			tries++
			_, _ = w.Write([]byte(`{"kind":"PodList"}` + strings.Repeat(" ", size-len(`{"kind":"PodList"}`))))
		}))
		c, err := New(&rest.Config{Host: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		c.most = 1000
		var pods core.PodList
		err = c.Get(t.Context(), "/api/v1/pods", &pods)
		var long *tooLongError
		if ok != (err == nil) || !ok && (!errors.As(err, &long) || tries != 1) {
			t.Errorf("%d bytes, %d tries: %v", size, tries, err)
		}
		s.Close()
	}
}

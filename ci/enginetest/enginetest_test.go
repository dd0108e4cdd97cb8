package enginetest

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAPlanDoesNotDependOnTheOrderOfArguments(t *testing.T) {
	for _, query := range []string{
		`query Query {container{withExec(args:["a","b)"],expect:ANY){stdout}}}`,
		`query{container{withExec(expect:ANY, args:["a","b)"]){stdout}}}`,
	} {
		Session.Reset(nil)
		if _, body := ask(t, query); !strings.Contains(body, `"stdout":""`) {
			t.Fatal(body)
		}
		if got, want := Session.Plan(), "ask container\n  .withExec(args:[\"a\",\"b)\"], expect:ANY)\n  .stdout"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestValuesAreNumberedWhereTheyAreUsed(t *testing.T) {
	Session.Reset(nil)
	var ids []string
	for _, query := range []string{`{directory{withNewFile(contents:"b"){id}}}`, `{directory{withNewFile(contents:"a"){id}}}`} {
		_, body := ask(t, query)
		var out struct {
			Data struct {
				Directory struct{ WithNewFile struct{ ID string } }
			}
		}
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, out.Data.Directory.WithNewFile.ID)
	}
	ask(t, `{container{withDirectory(source:"`+ids[1]+`"){withDirectory(source:"`+ids[0]+`"){stdout}}}}`)
	want := "#1 = directory\n  .withNewFile(contents:\"a\")\n  .id\n#2 = directory\n  .withNewFile(contents:\"b\")\n  .id\n" +
		"ask container\n  .withDirectory(source:#1)\n  .withDirectory(source:#2)\n  .stdout"
	if got := Session.Plan(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnErrorIsAnAnswer(t *testing.T) {
	Session.Reset(map[string]any{"stdout": errors.New("no such image")})
	if _, body := ask(t, `{container{stdout}}`); !strings.Contains(body, `"message":"no such image"`) {
		t.Error(body)
	}
}

func TestWhatIsNoChainIsRefused(t *testing.T) {
	for _, query := range []string{"", "{", "{container", "{container{a b}}", `{container(a:"b}`, "{a}{b}"} {
		if code, body := ask(t, query); code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{container{withExec(args:["a\"b"]){stdout}}}`)
	f.Fuzz(func(_ *testing.T, query string) {
		if chain, err := parse(query); err == nil {
			render(chain)
		}
	})
}

func ask(t *testing.T, query string) (int, string) {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	Session.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/query", strings.NewReader(string(raw))))
	return w.Code, w.Body.String()
}

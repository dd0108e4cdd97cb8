package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/internal/cluster"
)

// lab is the control plane that the tests share.
var lab struct {
	plane *cluster.Plane
	err   error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-operation-")
	if err != nil {
		panic(err)
	}
	code := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if lab.plane, lab.err = cluster.StartPlane(ctx, dir, func(string) {}); lab.err == nil {
			defer lab.plane.Stop()
		}
		return m.Run()
	}()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// application makes an Application of its own and returns a client of it.
func application(t *testing.T) (Request, dynamic.ResourceInterface) {
	t.Helper()
	if lab.err != nil {
		t.Fatal(lab.err)
	}
	lab.plane.ArgoCD(t)
	ns := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	ns = strings.Trim(ns[max(0, len(ns)-40):], "-")
	lab.plane.Apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"}")
	lab.plane.Apply(t, ns, `
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  project: default
  source: {repoURL: https://git.example.com/shop.git, path: deploy, targetRevision: main}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
  syncPolicy: {syncOptions: [RespectIgnoreDifferences=true], retry: {limit: 0}}
`)
	client, err := dynamic.NewForConfig(lab.plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Namespace: ns, App: "shop", Timeout: 20 * time.Second},
		client.Resource(v1alpha1.SchemeGroupVersion.WithResource("applications")).Namespace(ns)
}

// head is the commit that the Applications ask for.
const head = "abc"

// refreshes plays the part of Argo CD's application controller that looks at git.
func refreshes(t *testing.T, app dynamic.ResourceInterface) {
	t.Helper()
	go func() {
		for t.Context().Err() == nil {
			time.Sleep(50 * time.Millisecond)
			u, err := app.Get(t.Context(), "shop", metav1.GetOptions{})
			if err != nil || u.GetAnnotations()[v1alpha1.AnnotationKeyRefresh] == "" {
				continue
			}
			patch := `{"metadata":{"annotations":{"` + v1alpha1.AnnotationKeyRefresh + `":null}},"status":{"sync":{"status":"OutOfSync","revision":"` + head + `"}}}`
			if _, err := app.Patch(t.Context(), "shop", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil && t.Context().Err() == nil {
				t.Error(err)
			}
		}
	}()
}

// controller plays the rest of it: it takes up what it is asked for and ends as
// told. It returns what it was asked for.
func controller(t *testing.T, app dynamic.ResourceInterface, phase, verdict string) (asked func() []map[string]any) {
	t.Helper()
	refreshes(t, app)
	var mu sync.Mutex
	var list []map[string]any
	patch := func(v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		if _, err := app.Patch(t.Context(), "shop", types.MergePatchType, raw, metav1.PatchOptions{}); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	}
	go func() {
		for t.Context().Err() == nil {
			time.Sleep(50 * time.Millisecond)
			u, err := app.Get(t.Context(), "shop", metav1.GetOptions{})
			if err != nil {
				continue
			}
			op, found := u.Object["operation"].(map[string]any)
			if !found {
				continue
			}
			mu.Lock()
			list = append(list, op)
			mu.Unlock()
			now := time.Now().UTC().Format(time.RFC3339)
			state := map[string]any{
				"operation": op, "phase": "Running", "startedAt": now, "message": "waiting for hooks",
				"syncResult": map[string]any{
					"revision": op["sync"].(map[string]any)["revision"], "source": map[string]any{"repoURL": "https://git.example.com/shop.git"},
					"resources": []any{map[string]any{
						"group": "batch", "version": "v1", "kind": "Job", "namespace": "shop",
						"name": "shop-gate", "hookType": "Sync", "hookPhase": "Running", "syncPhase": "Sync",
					}},
				},
			}
			patch(map[string]any{"operation": nil, "status": map[string]any{"operationState": state}})
			time.Sleep(700 * time.Millisecond)
			status := map[string]any{"operationState": map[string]any{"phase": phase, "message": "one or more synchronization tasks failed", "finishedAt": now}}
			note := map[string]any{}
			if verdict != "" {
				note = map[string]any{"sluice.dev/verdict": verdict, "sluice.dev/reason": "p50 4 ms → 9 ms", "sluice.dev/release": "1.1.0"}
				status["conditions"] = []any{map[string]any{"type": string(hook.Condition), "message": verdict, "lastTransitionTime": now}}
			}
			patch(map[string]any{"metadata": map[string]any{"annotations": note}, "status": status})
		}
	}()
	return func() []map[string]any {
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}

func TestASyncEndsWithItsVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		phase, verdict string
		code           int
		says           string
	}{
		"promoted":            {"Succeeded", "pass", 0, ""},
		"without any verdict": {"Succeeded", "", 0, ""},
		"stopped":             {"Failed", "fail", 1, "verdict fail: p50 4 ms → 9 ms"},
		"not to be trusted":   {"Failed", "invalid", 5, "verdict invalid"},
		"broken":              {"Error", "", 1, "one or more synchronization tasks failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, app := application(t)
			asked := controller(t, app, tt.phase, tt.verdict)
			var lines []string
			res, err := Sync(t.Context(), lab.plane.Config, request, func(l string) { lines = append(lines, l) })
			var failed *FailedError
			switch {
			case tt.code == 0 && err != nil:
				t.Fatal(err)
			case tt.code != 0 && (!errors.As(err, &failed) || failed.ExitCode() != tt.code || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v", err)
			}
			if res.Phase != tt.phase || res.Verdict != tt.verdict || res.Revision != head {
				t.Errorf("got %+v", res)
			}
			if said := strings.Join(lines, "\n"); !strings.Contains(said, "Sync shop-gate: running") {
				t.Errorf("said %s", said)
			}
			if list := asked(); len(list) != 1 || !strings.Contains(fmt.Sprint(list[0]), "RespectIgnoreDifferences=true") {
				t.Errorf("asked for %v", list)
			}
		})
	}
}

func TestAVerdictOfAnEarlierSyncIsNotThisOnes(t *testing.T) {
	request, app := application(t)
	old := map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"sluice.dev/verdict": "fail"}},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": string(hook.Condition), "message": "fail", "lastTransitionTime": "2026-01-01T00:00:00Z",
		}}},
	}
	raw, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Patch(t.Context(), "shop", types.MergePatchType, raw, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	controller(t, app, "Succeeded", "")
	res, err := Sync(t.Context(), lab.plane.Config, request, func(string) {})
	if err != nil || res.Verdict != "" {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestTwoWhoAskForTheSameShareOneSync(t *testing.T) {
	request, app := application(t)
	asked := controller(t, app, "Succeeded", "pass")
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if res, err := Sync(t.Context(), lab.plane.Config, request, func(string) {}); err != nil || res.Verdict != "pass" {
				t.Errorf("got %+v, %v", res, err)
			}
		})
	}
	all.Wait()
	if n := len(asked()); n != 1 {
		t.Errorf("%d syncs", n)
	}
}

// TestTheVerdictIsOnWhatWasPushed: while the release before is being judged, its
// sync is not the one that is asked for.
func TestTheVerdictIsOnWhatWasPushed(t *testing.T) {
	for name, tt := range map[string]struct {
		running string // revision of the sync that is under way
		asked   int
		says    string
		verdict string
	}{
		"of another commit": {"before", 1, "waiting for the end of another sync", "fail"},
		"of the same":       {head, 0, "a sync of the same revision is under way", "pass"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, app := application(t)
			request.Timeout = time.Minute
			patch := func(v string) {
				if _, err := app.Patch(t.Context(), "shop", types.MergePatchType, []byte(v), metav1.PatchOptions{}); err != nil {
					t.Error(err)
				}
			}
			now := time.Now().UTC().Format(time.RFC3339)
			patch(`{"status":{"operationState":{"operation":{"sync":{}},"phase":"Running","startedAt":"` + now + `","syncResult":{"revision":"` + tt.running + `","source":{"repoURL":"https://git.example.com/shop.git"}}}}}`)
			asked := controller(t, app, "Failed", "fail")
			var lines []string
			res, err := Sync(t.Context(), lab.plane.Config, request, func(l string) {
				lines = append(lines, l)
				if strings.Contains(l, tt.says) { // then that sync ends, with a pass
					patch(`{"metadata":{"annotations":{"sluice.dev/verdict":"pass"}},"status":{"operationState":{"phase":"Succeeded","finishedAt":"` + now + `"},` +
						`"conditions":[{"type":"` + string(hook.Condition) + `","message":"pass","lastTransitionTime":"` + now + `"}]}}`)
				}
			})
			if res.Verdict != tt.verdict || res.Revision != head || (err == nil) != (tt.verdict == "pass") {
				t.Errorf("got %+v, %v", res, err)
			}
			if said := strings.Join(lines, "\n"); len(asked()) != tt.asked || !strings.Contains(said, tt.says) {
				t.Errorf("%d syncs, said\n%s", len(asked()), said)
			}
		})
	}
}

func TestASyncThatNobodyTakesUpTimesOut(t *testing.T) {
	request, _ := application(t)
	request.Timeout = 1500 * time.Millisecond
	var late *TimeoutError
	if _, err := Sync(t.Context(), lab.plane.Config, request, func(string) {}); !errors.As(err, &late) || !strings.Contains(err.Error(), "has not begun") {
		t.Errorf("got %v", err)
	}
}

func TestAnApplicationThatIsNotThereIsNamed(t *testing.T) {
	request, _ := application(t)
	request.App = "nobody"
	if _, err := Sync(t.Context(), lab.plane.Config, request, func(string) {}); err == nil || !strings.Contains(err.Error(), `"nobody" not found`) {
		t.Errorf("got %v", err)
	}
}

func TestADryRunAsksForNothing(t *testing.T) {
	r, app := application(t)
	r.DryRun = true
	res, err := Sync(t.Context(), lab.plane.Config, r, func(string) {})
	if err != nil || res.Message != "would ask for a sync of main" {
		t.Errorf("%q, %v", res.Message, err)
	}
	u, err := app.Get(t.Context(), r.App, metav1.GetOptions{})
	if err != nil || u.Object["operation"] != nil {
		t.Fatalf("the Application asks for %v, %v", u.Object["operation"], err)
	}
	if _, err := app.Patch(t.Context(), r.App, types.MergePatchType, []byte(`{"operation":{"sync":{"revision":"v1.0.0"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for revision, want := range map[string]string{"": "would wait for the sync that is under way, then ask for one of main", "v1.0.0": "would join", "v1.1.0": "would wait for the sync that is under way, then ask for one of v1.1.0"} {
		r.Revision = revision
		if res, err := Sync(t.Context(), lab.plane.Config, r, func(string) {}); err != nil || !strings.HasPrefix(res.Message, want) {
			t.Errorf("of %q: %q, %v", revision, res.Message, err)
		}
	}
}

package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestTheImageRuns runs a real program in the files of its image, as the
// user that the image names.
func TestTheImageRuns(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "go")
	binary := filepath.Join(t.TempDir(), "inside")
	compile := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "./testdata/inside")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	index := build(t, Config{
		Name: "inside", Version: "v1.0.0", Binaries: []Binary{{"linux/" + runtime.GOARCH, binary}},
		Args: []string{"-x"}, Env: map[string]string{"A": "1"}, CACerts: file(t, "ca.pem", certificate(t, 1)),
	})
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	args := append(config.Config.Entrypoint, config.Config.Cmd...)
	cmd := &exec.Cmd{
		Path: args[0], Args: args, Env: config.Config.Env, Dir: config.Config.WorkingDir,
		SysProcAttr: &syscall.SysProcAttr{
			Chroot:     unpack(t, img),
			Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
		},
	}
	got, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	const want = `user 65532 65532 nonroot <nil>
certificates true
tmp <nil>
home <nil>
root is closed true
no shell true
arguments [/inside -x] 1
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("inside (-want +got):\n%s", diff)
	}
}

// unpack writes the files of an image below a new directory.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the user inside must get through
			t.Fatal(err)
		}
	}
	archive := tar.NewReader(mutate.Extract(img))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			var data []byte
			if data, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(path, data, 0o644)
			}
		}
		if err := errors.Join(err, os.Chown(path, h.Uid, h.Gid), os.Chmod(path, h.FileInfo().Mode())); err != nil {
			t.Fatal(err)
		}
	}
}

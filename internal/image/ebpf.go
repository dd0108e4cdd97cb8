package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// EBPF is a compiled eBPF object to be distributed.
type EBPF struct {
	Name        string // file name, for example probe.bpf.o
	Description string
	Object      []byte
	Programs    map[string]string // name → type, as bpfman spells it: cgroup_skb
	Maps        map[string]string // name → type: per_cpu_array
}

// How an eBPF object lies in an image.
const (
	// LayoutBPFMan is that of bpfman's bytecode images: one compressed layer with
	// the object, what is in it in labels.
	LayoutBPFMan = "bpfman"
	// LayoutGadget is that of Inspektor Gadget: the object as it is, with a YAML
	// file for a configuration.
	LayoutGadget = "gadget"
)

const (
	labelPrograms = "io.ebpf.programs"
	labelMaps     = "io.ebpf.maps"
	labelFilename = "io.ebpf.filename"

	gadgetArtifactType = "application/vnd.gadget.v1+binary"
	gadgetConfigType   = types.MediaType("application/vnd.gadget.config.v1+yaml")
	gadgetProgramType  = types.MediaType("application/vnd.gadget.ebpf.program.v1+binary")
)

// littleEndian are the platforms that one object for bpfel serves.
var littleEndian = []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}

// maxEBPF bounds an object in an image.
const maxEBPF = 16 << 20

// Image makes an image of an eBPF object in one of the layouts. The same object
// gives the same image.
func (e EBPF) Image(layout string) (v1.ImageIndex, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("making an image of eBPF object %s: %w", e.Name, err)
	}
	build := map[string]func(v1.Platform) (v1.Image, error){LayoutBPFMan: e.bpfman, LayoutGadget: e.gadget}[layout]
	if build == nil {
		return nil, fmt.Errorf("unknown layout %q of an eBPF image (known: %s, %s)", layout, LayoutBPFMan, LayoutGadget)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range littleEndian {
		img, err := build(p)
		if err != nil {
			return nil, fmt.Errorf("making an image of eBPF object %s: %w", e.Name, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	return index, nil
}

func (e EBPF) check() error {
	switch {
	case !fileName(e.Name):
		return fmt.Errorf("%q does not do for a file name", e.Name)
	case !bytes.HasPrefix(e.Object, []byte("\x7fELF")):
		return errors.New("it is no ELF file")
	case len(e.Object) > maxEBPF:
		return fmt.Errorf("it has %d bytes, more than %d", len(e.Object), maxEBPF)
	}
	return nil
}

// bpfman makes an image with one layer, a compressed tar with the object.
func (e EBPF) bpfman(p v1.Platform) (v1.Image, error) {
	layer, err := newLayer(time.Unix(0, 0), entry{name: e.Name, mode: 0o644, data: e.Object})
	if err != nil {
		return nil, err
	}
	programs, err := json.Marshal(e.Programs)
	if err != nil {
		return nil, err
	}
	maps, err := json.Marshal(e.Maps)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Labels: map[string]string{
			labelPrograms: string(programs), labelMaps: string(maps), labelFilename: e.Name,
			"org.opencontainers.image.description": e.Description,
		}},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, layer)
}

// gadget makes an image with the object as its layer.
func (e EBPF) gadget(v1.Platform) (v1.Image, error) {
	layer := static.NewLayer(e.Object, gadgetProgramType)
	config := fmt.Appendf(nil, "name: %q\ndescription: %q\n", e.Name, e.Description)
	annotations := map[string]string{titleAnnotation: e.Name, "org.opencontainers.image.description": e.Description}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  gadgetArtifactType,
		Config:        v1.Descriptor{MediaType: gadgetConfigType, Digest: hashOf(config), Size: int64(len(config))},
		Layers: []v1.Descriptor{{
			MediaType: gadgetProgramType, Digest: hashOf(e.Object), Size: int64(len(e.Object)),
			Annotations: map[string]string{titleAnnotation: "program.o"},
		}},
		Annotations: annotations,
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&writtenImage{manifest, config, layer})
}

// writtenImage is an image of one layer whose manifest is there already.
type writtenImage struct {
	manifest, config []byte
	layer            v1.Layer
}

func (w *writtenImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (w *writtenImage) RawManifest() ([]byte, error)        { return w.manifest, nil }
func (w *writtenImage) RawConfigFile() ([]byte, error)      { return w.config, nil }
func (w *writtenImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == hashOf(w.config) {
		return static.NewLayer(w.config, gadgetConfigType), nil
	}
	return w.layer, nil
}

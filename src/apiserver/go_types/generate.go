// Prints how Go writes the Kubernetes types that the embedded API server serves: for each struct its
// fields in order, with JSON name, Go type, whether a zero value is left out, the numbers under which
// protobuf has it (more than one where a struct is inlined in JSON but a message of its own there), and how a strategic
// merge patch changes it: its strategies and the key by which items of a list are told apart. Run it inside a module
// that requires k8s.io/api, k8s.io/apimachinery and k8s.io/apiextensions-apiserver of the release that the
// server speaks (v0.35.4):
//
//	go run generate.go > table.json
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// roots are the kinds served and the bodies of subresources and options.
var roots = []any{
	core.Namespace{}, core.Pod{}, core.Service{}, core.Event{}, core.ConfigMap{}, core.Secret{},
	core.ServiceAccount{}, core.Binding{}, core.PodTemplate{},
	apps.Deployment{}, apps.ReplicaSet{}, apps.ControllerRevision{},
	coordination.Lease{}, autoscaling.Scale{}, policy.PodDisruptionBudget{}, policy.Eviction{},
	apiextensions.CustomResourceDefinition{}, meta.DeleteOptions{},
}

// opaque types encode themselves; the server knows their JSON form by name.
var opaque = map[string]bool{
	"Time": true, "MicroTime": true, "Duration": true, "Quantity": true, "IntOrString": true,
	"RawExtension": true, "FieldsV1": true, "JSON": true, "JSONSchemaPropsOrArray": true,
	"JSONSchemaPropsOrBool": true, "JSONSchemaPropsOrStringArray": true,
}

type field struct {
	JSON  string `json:"json"`
	Type  string `json:"type"`
	Omit  bool   `json:"omit,omitempty"`
	Proto []int  `json:"proto,omitempty"`
	Patch string `json:"patch,omitempty"`
	Key   string `json:"key,omitempty"`
}

type generator map[string][]field

func (g generator) name(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + g.name(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "[]byte"
		}
		return "[]" + g.name(t.Elem())
	case reflect.Map:
		return "map[" + t.Key().Kind().String() + "]" + g.name(t.Elem())
	case reflect.Struct:
		if opaque[t.Name()] {
			return t.Name()
		}
		name := qualified(t)
		g.add(name, t)
		return name
	default:
		return t.Kind().String()
	}
}

// qualified spells a type as OpenAPI does: io.k8s.api.core.v1.Pod.
func qualified(t reflect.Type) string {
	path := strings.Split(t.PkgPath(), "/")
	host := strings.Split(path[0], ".")
	for left, right := 0, len(host)-1; left < right; left, right = left+1, right-1 {
		host[left], host[right] = host[right], host[left]
	}
	return strings.Join(append(host, path[1:]...), ".") + "." + t.Name()
}

func (g generator) add(name string, t reflect.Type) {
	if _, done := g[name]; done {
		return
	}
	g[name] = []field{}
	g[name] = g.fields(t, nil)
}

// number is the protobuf number of a field, after those of the messages that hold it.
func number(f reflect.StructField, outer []int) []int {
	parts := strings.Split(f.Tag.Get("protobuf"), ",")
	if len(parts) < 2 {
		return nil
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil
	}
	return append(append([]int{}, outer...), n)
}

func (g generator) fields(t reflect.Type, outer []int) []field {
	out := []field{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			inlined := g.fields(f.Type, number(f, outer))
			if number(f, outer) == nil { // TypeMeta: not in protobuf
				for i := range inlined {
					inlined[i].Proto = nil
				}
			}
			out = append(out, inlined...)
			continue
		}
		if tag == "-" || !f.IsExported() {
			continue
		}
		omit := strings.Contains(options, "omitzero") ||
			strings.Contains(options, "omitempty") && (f.Type.Kind() != reflect.Struct)
		out = append(out, field{
			tag, g.name(f.Type), omit, number(f, outer), f.Tag.Get("patchStrategy"), f.Tag.Get("patchMergeKey"),
		})
	}
	return out
}

func main() {
	g := generator{}
	for _, root := range roots {
		t := reflect.TypeOf(root)
		g.add(qualified(t), t)
	}
	out, err := json.Marshal(g)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// one type a line: readable differences
	fmt.Println(strings.ReplaceAll(string(out), "],\"io.", "],\n\"io."))
}

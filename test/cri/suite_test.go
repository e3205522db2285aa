// Package cri builds the judges of the Container Runtime Interface from cri-tools: critest as this package's test
// binary, crictl as the module's tool.
package cri

import (
	"flag"
	"testing"
	_ "unsafe" // for go:linkname

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"sigs.k8s.io/cri-tools/pkg/framework"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)

// The suite names one image by the digest of a build of its own, which nobody else can make. The image with our digest
// takes its place; every other name of the suite is served as it stands.
//
//go:linkname imageWithDigest sigs.k8s.io/cri-tools/pkg/validate.testImageWithDigest
var imageWithDigest string

var givenImageWithDigest = flag.String("image-with-digest", "", "name@digest to pull by digest")

func init() {
	framework.RegisterFlags()
}

func TestCRI(t *testing.T) {
	framework.AddBeforeSuiteCallback(func() {
		if *givenImageWithDigest != "" {
			imageWithDigest = *givenImageWithDigest
		}
	})
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "CRI validation")
}

// A peer of the benchmarks. It is built inside a copy of its own source, with its own go.mod.
module recording-operator.io/tests/tools/mediamtx

go 1.26.0

tool github.com/bluenviron/mediamtx

require github.com/bluenviron/mediamtx v1.20.1

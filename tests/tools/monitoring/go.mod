// The Prometheus operator's definitions, for the chart's dry run; nothing of it is compiled.
module recording-operator.io/tests/tools/monitoring

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0

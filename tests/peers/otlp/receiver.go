package main

import (
	"context"
	"encoding/json"
	"os"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc/stats"
)

// receiver prints what it is sent.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	silent bool
}

func (r *receiver) Export(ctx context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	for _, resource := range request.Traces().ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				if err := write(span, resource.Resource()); err != nil {
					return ptraceotlp.NewExportResponse(), err
				}
			}
		}
	}
	if r.silent {
		<-ctx.Done()
	}
	return ptraceotlp.NewExportResponse(), nil
}

func write(span ptrace.Span, resource pcommon.Resource) error {
	line, err := json.Marshal(map[string]any{
		"trace_id":       span.TraceID().String(),
		"span_id":        span.SpanID().String(),
		"parent_span_id": span.ParentSpanID().String(),
		"name":           span.Name(),
		"kind":           span.Kind(),
		"start":          span.StartTimestamp(),
		"end":            span.EndTimestamp(),
		"attributes":     span.Attributes().AsRaw(),
		"status":         span.Status().Code(),
		"resource":       resource.Attributes().AsRaw(),
	})
	if err == nil {
		tell("span", string(line))
	}
	return err
}

// tell writes a line in one piece: other connections tell something at the same time.
func tell(what, more string) {
	os.Stdout.WriteString(what + " " + more + "\n")
}

// connections tells of each of them once it has passed TLS.
type connections struct{}

func (connections) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, begins := event.(*stats.ConnBegin); begins {
		os.Stdout.WriteString("connected\n")
	}
}

func (connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connections) HandleRPC(context.Context, stats.RPCStats)                         {}

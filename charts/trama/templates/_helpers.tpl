{{- /* Labels of an object. Takes the root and the component's name. */ -}}
{{- define "trama.labels" -}}
{{ include "trama.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Labels of a pod, to which `more` can be added. Nothing of the chart is in them: a new chart alone replaces no pod. */ -}}
{{- define "trama.podLabels" -}}
{{ include "trama.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: trama
{{- with mergeOverwrite (deepCopy .root.Values.commonLabels) (.more | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What selects the pods of a component. A Deployment cannot change it: neither can we. */ -}}
{{- define "trama.selector" -}}
app.kubernetes.io/name: trama
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- /* An image by digest, by tag, or by the chart's appVersion. */ -}}
{{- define "trama.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

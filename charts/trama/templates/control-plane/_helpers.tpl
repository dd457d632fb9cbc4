{{- /* One name for all objects of the control plane: sidecars are configured with it, whatever the release is called. */ -}}
{{- define "trama.controlPlane.name" -}}
trama-control-plane
{{- end -}}

{{- define "trama.controlPlane.labels" -}}
{{ include "trama.labels" (dict "root" . "component" "control-plane") }}
{{- end -}}

{{- define "trama.controlPlane.podLabels" -}}
{{ include "trama.podLabels" (dict "root" . "component" "control-plane" "more" .Values.controlPlane.podLabels) }}
{{- end -}}

{{- define "trama.controlPlane.selector" -}}
{{ include "trama.selector" (dict "root" . "component" "control-plane") }}
{{- end -}}

{{- define "trama.controlPlane.claim" -}}
{{ .Values.controlPlane.persistence.existingClaim | default (include "trama.controlPlane.name" .) }}
{{- end -}}

{{- /* The configuration: what the values say, and over it what the manifests rely on. */ -}}
{{- define "trama.controlPlane.config" -}}
{{- $values := .Values.controlPlane -}}
{{- $key := "/var/lib/trama/sealing.key" -}}
{{- if $values.sealingKey.existingSecret -}}
{{- $key = "/etc/trama/sealing-key/sealing.key" -}}
{{- end -}}
{{- $own := dict
  "workload" (dict "namespace" .Release.Namespace "account" $values.serviceAccount.name)
  "ports" (dict "sidecars" 15010 "metrics" 15011 "health" 15012)
  "store" (dict "path" "/var/lib/trama/store" "sealingKey" $key)
  "admin" (dict "socket" "/run/trama/admin.sock")
-}}
{{- if $values.traceAuthorities.existingConfigMap -}}
{{- $_ := set $own "traces" (dict "forward" (dict "authorities" "/etc/trama/trace-authorities/ca.pem")) -}}
{{- end -}}
{{ toYaml (mergeOverwrite (deepCopy $values.config) $own) }}
{{- end -}}

{{- /* Values that are right each by itself and contradict each other. */ -}}
{{- define "trama.controlPlane.check" -}}
{{- with .Values.controlPlane.traceAuthorities.existingConfigMap -}}
{{- if not (dig "traces" "forward" "endpoint" "" $.Values.controlPlane.config | hasPrefix "https://") -}}
{{- fail (printf "controlPlane.traceAuthorities.existingConfigMap: %q is not used unless controlPlane.config.traces.forward.endpoint begins with https://; write one, or leave it out" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.controlPlane.persistence -}}
{{- if and .existingClaim (not .enabled) -}}
{{- fail (printf "controlPlane.persistence.existingClaim: %q is not used while controlPlane.persistence.enabled is false; leave one of them out" .existingClaim) -}}
{{- end -}}
{{- end -}}
{{- end -}}

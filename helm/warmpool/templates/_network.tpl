{{/* To a store of the release's own, or to anywhere on the port of another. Takes a dict of root, store and port. */}}
{{- define "warmpool.storeEgress" -}}
- ports:
    - {protocol: TCP, port: {{ .port }}}
  {{- if (get .root.Values .store).embedded.enabled }}
  to:
    - podSelector:
        matchLabels:
          {{- include "warmpool.selector" (dict "root" .root "component" .store) | nindent 10 }}
  {{- end }}
{{- end -}}

{{- define "warmpool.embeddingEgress" -}}
{{- if ne .Values.embedding.model "hashed-384" }}
- ports:
    - {protocol: TCP, port: {{ .Values.embedding.port }}}
{{- end }}
{{- end -}}

{{- define "warmpool.metricsPeer" -}}
{{- with .Values.networkPolicy.metricsNamespace }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end -}}

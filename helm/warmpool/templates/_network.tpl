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

{{/* Where programs of a pool with a network profile may connect to. `0.0.0.0/0` is the Internet, not the cluster's own addresses. */}}
{{- define "warmpool.poolEgress" -}}
{{- $private := dict
  "0.0.0.0/0" (list "10.0.0.0/8" "100.64.0.0/10" "169.254.0.0/16" "172.16.0.0/12" "192.168.0.0/16")
  "::/0" (list "fc00::/7" "fe80::/10")
-}}
- to:
    {{- range .Values.pool.network.egress }}
    - ipBlock:
        cidr: {{ .cidr | quote }}
        {{- with concat (default list (get $private .cidr)) (default list .except) | uniq }}
        except: {{ toJson . }}
        {{- end }}
    {{- end }}
  ports:
    {{- range .Values.pool.network.tcpPorts }}
    - {protocol: TCP, port: {{ . }}}
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

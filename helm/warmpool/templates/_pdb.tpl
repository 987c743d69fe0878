{{/* Takes a dict of root, component and values. */}}
{{- define "warmpool.pdb" }}
{{- if .values.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "warmpool.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "warmpool.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .values.pdb.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "warmpool.selector" . | nindent 6 }}
{{- end }}
{{- end }}

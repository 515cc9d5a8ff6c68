{{/* The labels of every object. */}}
{{- define "authsvc.labels" -}}
app.kubernetes.io/part-of: authsvc
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image by its digest, or else by its tag. Takes `image` and `tag`, the default. */}}
{{- define "authsvc.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag | required "an image needs a tag or a digest" }}
{{- end }}
{{- end }}

{{/* Where pods may run. Takes the values of a program. */}}
{{- define "authsvc.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

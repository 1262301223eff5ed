{{- define "mcp-oauth2-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mcp-oauth2-proxy.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mcp-oauth2-proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mcp-oauth2-proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcp-oauth2-proxy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mcp-oauth2-proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mcp-oauth2-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mcp-oauth2-proxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mcp-oauth2-proxy.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the client secret; empty where the secret comes another way. */}}
{{- define "mcp-oauth2-proxy.secretName" -}}
{{- if .Values.clientSecret.existingSecret -}}
{{- .Values.clientSecret.existingSecret -}}
{{- else if .Values.clientSecret.value -}}
{{- include "mcp-oauth2-proxy.fullname" . -}}
{{- end -}}
{{- end -}}

{{/* The port of server.listenAddress (":8080", "127.0.0.1:8080", "[::]:8080"). */}}
{{- define "mcp-oauth2-proxy.port" -}}
{{- $server := .Values.config.server | default dict -}}
{{- regexFind "[0-9]+$" ($server.listenAddress | default ":8080") | default "8080" -}}
{{- end -}}

{{/* A duration as Go writes it ("1h30m", "250ms", "0s"), in whole seconds, rounded up. */}}
{{- define "mcp-oauth2-proxy.seconds" -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ns" 0.000000001 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "([0-9]+\\.?[0-9]*|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)" (toString .) -1 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $total = addf $total (mulf (float64 $number) (get $units (trimPrefix $number .))) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end -}}

{{/* What a pod takes to end: what it sleeps before SIGTERM, and what it drains after it. */}}
{{- define "mcp-oauth2-proxy.drain" -}}
{{- $server := .Values.config.server | default dict -}}
{{- add (.Values.preStopSleepSeconds | int) (include "mcp-oauth2-proxy.seconds" ($server.shutdownGrace | default "10s") | int) -}}
{{- end -}}

{{/* How long a pod may take to end: the above, and a margin for everything to be closed. */}}
{{- define "mcp-oauth2-proxy.terminationGrace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "mcp-oauth2-proxy.drain" . | int) 5 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds | int -}}
{{- end -}}
{{- end -}}

{{/* The most, and the fewest, pods that there are when all is well. */}}
{{- define "mcp-oauth2-proxy.most" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled | int -}}
{{- end -}}
{{- define "mcp-oauth2-proxy.fewest" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled | int -}}
{{- end -}}

{{/* "true" where a budget is wanted: by default with two pods or more, for with one it could only be in the way. */}}
{{- define "mcp-oauth2-proxy.hasBudget" -}}
{{- $wanted := .Values.podDisruptionBudget.enabled -}}
{{- if ternary (gt (include "mcp-oauth2-proxy.fewest" . | int) 1) $wanted (kindIs "invalid" $wanted) -}}true{{- end -}}
{{- end -}}

{{/* "true" where workers share memory through a file: they need a directory to write to. */}}
{{- define "mcp-oauth2-proxy.needsTemporary" -}}
{{- $workers := dig "server" "workers" 1 .Values.config | toString -}}
{{- $store := .Values.config.store | default dict -}}
{{- if and (ne $workers "1") (not $store.urlFile) (hasPrefix "memory:" ($store.url | default "memory://")) -}}true{{- end -}}
{{- end -}}

{{/* "true" where several replicas would each remember their own logins only. */}}
{{- define "mcp-oauth2-proxy.splitLogins" -}}
{{- $store := .Values.config.store | default dict -}}
{{- $most := include "mcp-oauth2-proxy.most" . | int -}}
{{- $url := $store.url | default (ternary "memory://" "" (empty $store.urlFile)) -}}
{{- if and (gt $most 1) (or (hasPrefix "memory:" $url) (hasPrefix "sqlite:" $url)) -}}true{{- end -}}
{{- end -}}

{{/* Stop before Kubernetes does: what is missing, cannot work, or would be a secret in a ConfigMap. */}}
{{- define "mcp-oauth2-proxy.check" -}}
{{- $values := .Values -}}
{{- $auth := .Values.config.auth | default dict -}}
{{- $upstream := .Values.config.upstream | default dict -}}
{{- $elsewhere := or .Values.envFrom .Values.extraEnv -}}
{{- if and (include "mcp-oauth2-proxy.splitLogins" .) (not $values.allowReplicasWithMemoryStore) -}}
{{- fail "more than one replica needs a config.store.url that the replicas share: with memory:// or sqlite:// a login that begins on one and goes on at another fails (allowReplicasWithMemoryStore: true accepts that)" -}}
{{- end -}}
{{- if lt (include "mcp-oauth2-proxy.terminationGrace" . | int) (include "mcp-oauth2-proxy.drain" . | int) -}}
{{- fail (printf "terminationGracePeriodSeconds: pods would be killed while they drain: preStopSleepSeconds and config.server.shutdownGrace take %s s" (include "mcp-oauth2-proxy.drain" .)) -}}
{{- end -}}
{{- if hasPrefix "systemd:" ((.Values.config.server | default dict).listenAddress | default "") -}}
{{- fail "config.server.listenAddress: nothing hands a socket to a pod; use an address such as :8080" -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- if not (or .Values.autoscaling.targetCPUUtilizationPercentage .Values.autoscaling.targetMemoryUtilizationPercentage) -}}
{{- fail "autoscaling: set targetCPUUtilizationPercentage or targetMemoryUtilizationPercentage" -}}
{{- end -}}
{{- $requests := dig "requests" dict (.Values.resources | default dict) -}}
{{- range $name, $target := dict "cpu" .Values.autoscaling.targetCPUUtilizationPercentage "memory" .Values.autoscaling.targetMemoryUtilizationPercentage -}}
{{- if and $target (not (get $requests $name)) -}}
{{- fail (printf "autoscaling: the target is a share of resources.requests.%s, which is not set" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.clientSecret.existingSecret $values.clientSecret.value -}}
{{- fail "clientSecret: set existingSecret or value, not both" -}}
{{- end -}}
{{- if and $auth.clientSecret (not (regexMatch "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$" $auth.clientSecret)) -}}
{{- fail "config.auth.clientSecret would be readable in a ConfigMap: use clientSecret.existingSecret, or a ${NAME} that extraEnv or envFrom sets" -}}
{{- end -}}
{{- $storeUrl := dig "store" "url" "" $values.config | toString -}}
{{- if and (regexMatch "://[^/]*@" $storeUrl) (not (contains "${" $storeUrl)) -}}
{{- fail "config.store.url has a password that would be readable in a ConfigMap: use a ${NAME} that extraEnv or envFrom sets, or urlFile" -}}
{{- end -}}
{{- range $auth.sealingKeys -}}
{{- if not (regexMatch "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}$" .) -}}
{{- fail "config.auth.sealingKeys would be readable in a ConfigMap: use a ${NAME} that extraEnv or envFrom sets, or sealingKeysFile" -}}
{{- end -}}
{{- end -}}
{{- if and (include "mcp-oauth2-proxy.secretName" .) (or $auth.clientSecret $auth.clientSecretFile) -}}
{{- fail "the client secret is set twice: by clientSecret and by config.auth" -}}
{{- end -}}
{{- if not $elsewhere -}}
{{- if not $upstream.url -}}{{- fail "config.upstream.url is required: the URL of the MCP server" -}}{{- end -}}
{{- if not $auth.baseUrl -}}{{- fail "config.auth.baseUrl is required: the proxy's public URL" -}}{{- end -}}
{{- if not $auth.issuerUrl -}}{{- fail "config.auth.issuerUrl is required: the URL of the Keycloak realm" -}}{{- end -}}
{{- if not $auth.clientId -}}{{- fail "config.auth.clientId is required: the ID of the Keycloak client" -}}{{- end -}}
{{- if not (or (include "mcp-oauth2-proxy.secretName" .) $auth.clientSecret $auth.clientSecretFile) -}}
{{- fail "the client secret is required: set clientSecret.existingSecret to the name of a Secret" -}}
{{- end -}}
{{- end -}}
{{- end -}}

"""Component names of the official collector (core and contrib), as of 0.155.

Only for error messages: a name in here exists elsewhere, and the message can say so instead
of guessing at a spelling mistake. A name that is missing costs no more than a vaguer message.
"""

from __future__ import annotations

_NAMES = {
    "receivers": """
        active_directory_ds activedirectoryds aerospike apache apachespark awscloudwatch
        awscontainerinsightreceiver awsecscontainermetrics awsfirehose awslambda awss3 awsxray azureblob
        azureeventhub azuremonitor bigip carbon chrony ciscoos cloudflare cloudfoundry collectd couchdb
        datadog docker_stats elasticsearch envoyals expvar faro file_log filelog filestats flinkmetrics
        fluentforward github githubreceiver gitlab googlecloudmonitoring googlecloudpubsub
        googlecloudspanner haproxy host_metrics hostmetrics http_check httpcheck huaweicloudcesreceiver
        icmpcheckreceiver iis influxdb jaeger jmx journald k8s_cluster k8s_events k8slog k8sobjects kafka
        kafkametrics kubeletstats libhoney loki macosunifiedlogging memcached mongodb mongodbatlas mysql
        namedpipe netflow netscaler nginx nop nsxt ntp openshift oracledb osquery otelarrow otlp
        otlpjsonfile pcap podman_stats postgresql pprof prometheus prometheus_remote_write
        prometheusremotewrite pulsar purefa purefb rabbitmq receiver_creator redfish redis riak saphana
        signalfx simpleprometheus skywalking snmp snowflake solace splunk_hec splunkenterprise sqlquery
        sqlserver sshcheck statsd stef syslog systemd tcpcheck tcplog tlscheck udplog vcenter vcr
        wavefront webhookevent windowseventlog windowsperfcounters windowsservice yanggrpc zipkin
        zookeeper
    """,
    "processors": """
        attributes batch coralogix cumulativetodelta deltatocumulative deltatorate dnslookup filter geoip
        groupbyattrs groupbytrace interval isolationforest k8s_attributes k8sattributes log_dedup logdedup
        logstransform lookup memory_limiter metrics_transform metricsgeneration metricstarttime
        metricstransform probabilistic_sampler redaction remotetap resource resource_detection
        resourcedetection routing schema span spanpruning sumologic tail_sampling transform unroll
    """,
    "exporters": """
        alertmanager alibabacloud_logservice awscloudwatchlogs awsemf awskinesis awss3 awsxray azureblob
        azuredataexplorer azuremonitor bmchelix carbon cassandra clickhouse coralogix datadog dataset
        debug doris elasticsearch faro file googlecloud googlecloudpubsub googlecloudstorage
        googlemanagedprometheus honeycombmarker influxdb kafka kinetica load_balancing loadbalancing
        logicmonitor logzio mezmo nop opensearch otelarrow otlp otlp_grpc otlp_http otlphttp prometheus
        prometheus_remote_write prometheusremotewrite pulsar rabbitmq sapm sematext sentry signalfx
        splunk_hec stef sumologic syslog tencentcloud_logservice tinybird tracing zipkin
    """,
    "extensions": """
        ack asapclient aws_proxy awsproxy azure_auth basic_auth basicauth bearer_token_auth
        bearertokenauth cfgarden cgroupruntime datadog db_storage dbstorage docker_observer ecs_observer
        ecs_task_observer encoding file_storage googleclientauth headers_setter health_check healthcheckv2
        host_observer http_forwarder httpforwarder jaeger_encoding jaegerremotesampling json_log_encoding
        k8s_leader_elector k8s_observer kafkatopics_observer memory_ballast memory_limiter nop
        oauth2client oidc opamp otlp_encoding pprof redis_storage remotetap sigv4auth
        solarwindsapmsettings sumologic text_encoding zipkin_encoding zpages
    """,
    "connectors": """
        count datadog exceptions failover forward grafanacloud metricsaslogs otlpjson roundrobin routing
        service_graph servicegraph signaltometrics slowsql span_metrics spanmetrics sum
    """,
}

OFFICIAL: dict[str, frozenset[str]] = {kind: frozenset(names.split()) for kind, names in _NAMES.items()}

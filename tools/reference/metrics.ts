import { metrics } from '../../packages/server/src/metrics.ts';

/** The table of metrics as Markdown, for `docs/reference/metrics.md`. */
export const metricsReference = (): string => `# Metrics

\`GET /metrics\` on \`PORTCULLIS_ADMIN_LISTEN\` says them in Prometheus's text format, or as OpenMetrics to whoever asks for that.
[Watch with Prometheus](../how-to/watch-with-prometheus.md) has a scrape configuration, alerts and a dashboard.

They are of this process, or of all its workers together, and start at 0 with it. A label takes its values from the table of routes, the table of problems and the
settings: nothing that a caller can write makes a series.

| metric | type | labels | what it is |
| --- | --- | --- | --- |
${metrics
  .map(
    ({ name, type, labels = {}, help }) =>
      `| \`${name}\` | ${type} | ${Object.entries(labels)
        .map(([label, says]) => `\`${label}\`: ${says}`)
        .join('; ')} | ${help} |`,
  )
  .join('\n')}
`;

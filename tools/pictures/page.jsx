// Draws a dashboard's panels with Grafana's own libraries, from data that render.py fetched from Prometheus.
// Grafana's React panels themselves (@grafana/scenes, the server) are not on npm: layout, titles and
// legends of this page are ours, the graphs, units, thresholds and colours are Grafana's.
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, FieldType, getDisplayProcessor, ThemeContext, toDataFrame } from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, TimeSeries } from '@grafana/ui';
import 'uplot/dist/uPlot.min.css';

const theme = createTheme({ colors: { mode: 'dark' } });
const { panels, from, to } = window.DATA;
const CELL = 24, GAP = 8, HEIGHT = 38;

function frames(panel) {
  const lasts = panel.series.map((one) => one.values.filter((value) => value !== null).pop() ?? 0);
  const top = Math.max(...lasts, 0) * 1.05;
  const made = panel.series.map((one, index) => {
    const config = structuredClone(panel.fieldConfig.defaults);
    config.displayName = one.name || panel.title;
    config.color = config.color ?? { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' };
    if (panel.type === 'bargauge') Object.assign(config, { min: Math.min(...lasts, 0), max: top || 1 });
    const frame = toDataFrame({
      refId: one.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: one.times, config: {} },
        { name: one.name || 'Value', type: FieldType.number, values: one.values, config },
      ],
    });
    frame.fields[1].state = { seriesIndex: index };
    return frame;
  });
  for (const frame of made) {
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme });
  }
  return made;
}

function last(field) {
  const values = field.values.filter((value) => value !== null);
  return field.display(values[values.length - 1] ?? null);
}

function Content({ panel, width, height }) {
  const made = frames(panel);
  if (panel.type === 'table') return <div style={{ color: '#8e8e8e', padding: 8 }}>a table: not drawn here</div>;
  if (!made.length) return <div style={{ color: '#8e8e8e', padding: 8 }}>No data</div>;
  if (panel.type === 'timeseries') {
    const legend = { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] };
    return (
      <TimeSeries theme={theme} frames={made} structureRev={1} width={width} height={height} legend={legend}
        timeRange={window.RANGE} timeZone="utc" />
    );
  }
  if (panel.type === 'stat') {
    const value = last(made[0].fields[1]);
    const sparkline = { y: made[0].fields[1], x: made[0].fields[0], xMin: from, xMax: to };
    return <BigValue theme={theme} value={value} sparkline={sparkline} width={width} height={height}
      colorMode={panel.options.colorMode} graphMode="area" justifyMode="auto" textMode="value" />;
  }
  const each = Math.max(18, Math.min(48, height / made.length - 4));
  return made.slice(0, Math.floor(height / (each + 4))).map((frame, index) => {
    const field = frame.fields[1];
    return (
      <div key={index} style={{ marginBottom: 4 }}>
        <BarGauge theme={theme} value={{ ...last(field), title: field.config.displayName }} width={width} height={each}
          field={field.config} display={field.display} orientation="horizontal" displayMode="basic" itemSpacing={4} />
      </div>
    );
  });
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const unit = (window.innerWidth - GAP) / CELL;
  const box = { left: x * unit + GAP, top: y * HEIGHT + GAP, width: w * unit - GAP, height: h * HEIGHT - GAP };
  const style = { position: 'absolute', ...box };
  if (panel.type === 'row') return <div style={{ ...style, color: '#ccccdc', fontWeight: 500 }}>{panel.title}</div>;
  return (
    <div style={style}>
      <PanelChrome title={panel.title} width={box.width} height={box.height} padding="md">
        {(width, height) => <Content panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

window.RANGE = { from: dateTime(from), to: dateTime(to), raw: { from: 'now-5m', to: 'now' } };
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    {panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
  </ThemeContext.Provider>
);

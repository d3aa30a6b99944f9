// Draws a dashboard with Grafana's own libraries, from data that render.py fetched from Prometheus: graphs with
// exemplars and version markers, legends, stats, bars, tables with their transformations, panels' headers.
// The panels' own code (the server's) is not on npm, so what joins these, and the head of the page, is ours.
import { useCallback } from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';
import {
  applyFieldOverrides, cacheFieldDisplayNames, createTheme, dateTime, FieldType, getDisplayProcessor,
  getMinMaxAndDelta, standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers,
  standardTransformersRegistry, ThemeContext, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, EventsCanvas, PanelChrome, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import 'uplot/dist/uPlot.min.css';

const theme = createTheme({ colors: { mode: 'dark' } });
const { title, panels, from, to, variables, others, markers } = window.DATA;
const CELL = 24, GAP = 8, HEIGHT = 38, HEAD = 84;
const faint = theme.colors.text.secondary, link = theme.colors.text.link;

const path = (id, name, fn) => ({ id, path: id, name, getName: () => name, process: (value) => value, shouldApply: () => true, ...fn });
standardEditorsRegistry.setInit(() => []);
standardFieldConfigEditorRegistry.setInit(() => [path('unit', 'Unit'), path('decimals', 'Decimals'), path('thresholds', 'Thresholds')]);
standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((one) => (
    { id: one.id, name: one.name, transformation: () => one })));

function frames(panel) {
  const lasts = panel.series.map((one) => one.values.filter((value) => value !== null).pop() ?? 0);
  const top = Math.max(...lasts, 0) * 1.05;
  const made = panel.series.map((one, index) => {
    const config = structuredClone(panel.fieldConfig.defaults);
    config.displayName = one.name || panel.title;
    config.color = config.color ?? { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' };
    if (panel.type === 'bargauge') Object.assign(config, { min: config.min ?? 0, max: config.max ?? (top || 1) });
    const frame = toDataFrame({
      refId: one.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: one.times, config: {} },
        { name: one.name || 'Value', type: FieldType.number, values: one.values, config },
      ],
    });
    frame.fields[1].state = { seriesIndex: index, range: getMinMaxAndDelta(frame.fields[1]) };
    return frame;
  });
  for (const frame of made) {
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme });
  }
  return made;
}

// A table's answers through the panel's own transformations, as Grafana runs them.
async function tableFrame(panel) {
  const answers = panel.answers.map((one) => toDataFrame({
    refId: one.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: one.rows.map(() => to), config: {} },
      ...one.labels.map((label) => ({ name: label, type: FieldType.string, config: {}, values: one.rows.map((row) => row.labels[label] ?? '') })),
      { name: `Value #${one.refId}`, type: FieldType.number, config: {}, values: one.rows.map((row) => row.value) },
    ],
  }));
  const [merged] = await firstValueFrom(transformDataFrame(panel.transformations, answers, { interpolate: (text) => text }));
  const made = applyFieldOverrides({
    data: [merged], theme, timeZone: 'utc', fieldConfig: panel.fieldConfig, replaceVariables: (text) => text,
  });
  cacheFieldDisplayNames(made);
  return made[0];
}

function last(field) {
  const values = field.values.filter((value) => value !== null);
  return field.display(values[values.length - 1] ?? null);
}

// As Grafana's exemplars are: points at the time and value of the request, each leading to its trace.
function Exemplars({ config, points }) {
  const place = useCallback((frame, index) => {
    const plot = window.PLOTS.get(config);
    const scale = plot && Object.keys(plot.scales).find((key) => key !== 'x');
    if (!scale) return undefined;
    const { time, value } = frame.points[index];
    return { x: plot.valToPos(time, 'x'), y: plot.valToPos(Math.min(value, plot.scales[scale].max), scale) };
  }, [config]);
  const mark = useCallback(() => (
    <svg width="9" height="9" style={{ transform: 'translate(-4.5px,-4.5px)', display: 'block' }}>
      <rect x="1.6" y="1.6" width="5.6" height="5.6" transform="rotate(45 4.5 4.5)" fill={theme.visualization.getColorByName('blue')} />
    </svg>
  ), []);
  if (!window.PLOTS.has(config)) {
    window.PLOTS.set(config, null);
    config.addHook('init', (plot) => window.PLOTS.set(config, plot));
  }
  return <EventsCanvas id="exemplars" config={config} events={[{ points, length: points.length }]} renderEventMarker={mark} mapEventToXYCoords={place} />;
}

// The dashboard's annotation: a dashed line where a version appeared.
function drawMarkers(config) {
  if (window.MARKED.has(config)) return;
  window.MARKED.add(config);
  config.addHook('draw', (plot) => {
    const { left, top, width, height } = plot.bbox, ctx = plot.ctx;
    ctx.save();
    ctx.strokeStyle = theme.visualization.getColorByName('blue');
    ctx.setLineDash([4, 4]);
    for (const marker of markers) {
      const x = plot.valToPos(marker.time, 'x', true);
      if (x < left || x > left + width) continue;
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
    }
    ctx.restore();
  });
}

function Graph({ panel, made, width, height }) {
  const legend = panel.options.legend;
  return (
    <TimeSeries theme={theme} frames={made} structureRev={1} width={width} height={height} legend={legend}
      timeRange={window.RANGE} timeZone="utc">
      {(config) => {
        drawMarkers(config);
        return panel.exemplars.length ? <Exemplars config={config} points={panel.exemplars} /> : null;
      }}
    </TimeSeries>
  );
}

function Content({ panel, width, height }) {
  if (panel.type === 'table') {
    return panel.frame ? <TableNG data={panel.frame} width={width} height={height} cellHeight="sm" structureRev={1}
      sortBy={panel.options.sortBy} timeRange={window.RANGE} /> : <Empty />;
  }
  const made = frames(panel);
  if (!made.length) return <Empty />;
  if (panel.type === 'timeseries') return <Graph panel={panel} made={made} width={width} height={height} />;
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
          text={panel.options.text} field={field.config} display={field.display} orientation="horizontal" displayMode="basic" itemSpacing={4} />
      </div>
    );
  });
}

function Empty() {
  return <div style={{ color: faint, padding: 8, textAlign: 'center' }}>No data</div>;
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const unit = (window.innerWidth - GAP) / CELL;
  const box = { left: x * unit + GAP, top: HEAD + y * HEIGHT + GAP, width: w * unit - GAP, height: h * HEIGHT - GAP };
  const style = { position: 'absolute', ...box };
  if (panel.type === 'row') return <div style={{ ...style, color: '#ccccdc', fontWeight: 500 }}>{panel.title}</div>;
  const links = (panel.links ?? []).map((one) => (
    <span key={one.title} style={{ color: link, fontSize: 12, paddingRight: 8 }}>{w < 6 ? '' : one.title.replace('Taximeter / ', '')} ↗</span>
  ));
  return (
    <div style={style}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height} padding="md" titleItems={links}>
        {(width, height) => <Content panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Head() {
  const box = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: 2, padding: '3px 8px', marginRight: 12 };
  return (
    <div style={{ position: 'absolute', left: GAP, top: GAP, right: GAP }}>
      <div style={{ fontSize: 18, fontWeight: 500, marginBottom: 10 }}>{title}</div>
      <div style={{ fontSize: 12, display: 'flex' }}>
        {variables.map((one) => <span key={one.label} style={box}><span style={{ color: faint }}>{one.label} </span>{one.value}</span>)}
        <span style={{ marginLeft: 'auto', padding: 4 }}>
          {others.map((one) => <span key={one} style={{ color: link, marginLeft: 16 }}>{one.replace('Taximeter / ', '')}</span>)}
        </span>
      </div>
    </div>
  );
}

const told = (error) => { document.body.append(String(error?.stack ?? error)); };
window.addEventListener('error', (event) => told(event.error));
window.addEventListener('unhandledrejection', (event) => told(event.reason));
window.PLOTS = new WeakMap();
window.MARKED = new WeakSet();
window.RANGE = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
for (const panel of panels) {
  if (panel.type === 'table' && panel.answers.length) panel.frame = await tableFrame(panel);
}
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <Head />
    {panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
  </ThemeContext.Provider>
);

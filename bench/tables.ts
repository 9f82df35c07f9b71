import { formatBytes } from '../engine/format.ts';
import type { Table } from '../guard/report/table.ts';
import type {
  ComputedOn,
  FormatsResult,
  GuardResult,
  KernelsResult,
  LoadingResult,
  ModelPass,
  ModelResult,
  Result,
  Target,
  Timing,
} from './schema.ts';

/** Three significant digits, or all those before the point. */
export const figure = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value === 0 ? '0' : value.toPrecision(3);

const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
const times = ({ median, p90 }: Timing) => [figure(median), figure(p90)];
/** Of so many things in the median time. */
const perSecond = (count: number, { median }: Timing) => figure((count / median) * 1000);

/** What a person must know of the machine before the first figure. */
export function describeMachine({ environment }: Pick<Result, 'environment'>): string[] {
  const { adapter, processor, commit, node, date } = environment;
  const software = adapter?.software
    ? ', a software adapter: a processor plays the GPU, these are no figures of a GPU'
    : '';
  return [
    `WebGPU adapter: ${adapter ? `${adapter.name}${software}` : 'none'}`,
    ...(adapter
      ? [
          `Vendor ${adapter.vendor || 'unknown'}, architecture ${adapter.architecture || 'unknown'}, device ${adapter.device || 'unknown'}; Dawn: ${adapter.toggles.join(' ') || 'no flags'}`,
        ]
      : []),
    `Processor: ${processor.model}, ${processor.cores} cores; Node.js ${node}`,
    `Commit ${commit}, ${date}, arguments: ${environment.arguments.join(' ') || 'none'}`,
  ];
}

export function tablesOf(result: Result): Table[] {
  return [
    ...(result.kernels ?? []).flatMap(kernelsTables),
    ...(result.guard ?? []).flatMap(guardTables),
    ...(result.models ?? []).map(modelTable),
    ...(result.formats ?? []).flatMap(formatsTables),
    ...(result.loading ?? []).flatMap(loadingTables),
    ...tuningTable(result),
  ];
}

/** A device as titles name it. */
const deviceOf = ({ device, name }: ComputedOn): string => `${device} (${name})`;

/** No table where nothing is to be reached. */
function targetsTable(what: string, targets: readonly Target[]): Table[] {
  if (targets.length === 0) return [];
  const rows = targets.map(({ name, value, bound, target }) => {
    const reached = bound === 'at least' ? value >= target : value <= target;
    return [name, figure(value), `${bound} ${figure(target)}`, reached ? 'yes' : 'no'];
  });
  return [{ title: `${what}: what to reach`, columns: ['what', 'measured', 'target', 'reached'], rows, notes: [] }];
}

function formatsTables(formats: FormatsResult): Table[] {
  const { conversations, labelled } = formats;
  const exact = formats.rows[0]?.averagePrecision;
  const rows = formats.rows.map(({ format, meanError, maxError, flips, weightBytes, saved, averagePrecision }) => [
    format,
    meanError.toExponential(1),
    maxError.toExponential(1),
    String(flips),
    formatBytes(weightBytes),
    percent(saved),
    ...(averagePrecision === undefined || exact === undefined
      ? []
      : [averagePrecision.toFixed(4), (averagePrecision - exact).toFixed(4)]),
  ]);
  const title = `Weight formats on ${deviceOf(formats)}`;
  const columns = ['weights', 'mean error', 'largest error', 'verdicts flipped', 'weights take', '% saved'];
  const notes = [`Of the embedded model's score against f32, over ${conversations} conversations.`];
  if (exact !== undefined) {
    columns.push('AUPRC', 'against f32');
    notes.push(`AUPRC over the ${labelled} of them that are labelled.`);
  }
  return [{ title, columns, rows, notes }, ...targetsTable(title, formats.targets)];
}

function loadingTables(loading: LoadingResult): Table[] {
  const title = `Loading on ${deviceOf(loading)}`;
  const rows = loading.rows.map((row) => [
    `${row.stored} to ${row.dtype}`,
    formatBytes(row.bytes),
    ...times(row),
    figure(row.gigabytesPerSecond),
    figure(row.readGigabytesPerSecond),
    percent(row.shareOfRead),
    figure(row.keptGigabytesPerSecond),
    percent(row.shareOfKept),
    formatBytes(row.hostBytes),
  ]);
  const columns = [
    'weights',
    'files',
    'ms',
    'p90 ms',
    'GB/s',
    'plain read GB/s',
    '% of it',
    'kept read GB/s',
    '% of it ',
    'host memory',
  ];
  const notes = [
    'A plain read goes through the same files in order, each piece into the same memory; a kept one into memory of its own.',
    "Host memory is what the process grew by at the most, beyond the device's own.",
  ];
  return [{ title, columns, rows, notes }, ...targetsTable(title, loading.targets)];
}

function tuningTable({ tuning }: Result): Table[] {
  if (!tuning) return [];
  const rows = tuning.choices.map(({ shapes, variant }) => [shapes, variant]);
  return [{ title: 'Kernels chosen', columns: ['shapes', 'variant'], rows, notes: [`Kept in ${tuning.file}`] }];
}

function kernelsTables({ ceilings, rows, skipped, targets, ...on }: KernelsResult): Table[] {
  return [
    {
      title: `Ceilings of ${deviceOf(on)}`,
      columns: ['what', 'reached'],
      rows: [
        ...ceilings.bandwidth.map(({ name, gigabytesPerSecond }) => [name, `${figure(gigabytesPerSecond)} GB/s`]),
        ...ceilings.arithmetic.map(({ name, gflops }) => [`multiply-adds in ${name}`, `${figure(gflops)} GFLOP/s`]),
      ],
      notes: [],
    },
    rowsTable(`Kernels on ${deviceOf(on)}`, rows, skipped),
    ...targetsTable(`Kernels on ${on.device}`, targets),
  ];
}

function rowsTable(title: string, timed: KernelsResult['rows'], skipped: KernelsResult['skipped']): Table {
  const columns = [
    'operation',
    'variant',
    'size',
    'dtypes',
    'ms',
    'p90 ms',
    'GFLOP/s',
    'GB/s',
    '% of ceiling',
    'verified',
  ];
  const rows = timed.map((row) => [
    row.operation,
    row.variant,
    row.label,
    row.dtypes,
    ...times(row),
    figure(row.gflops),
    figure(row.gigabytesPerSecond),
    percent(row.share),
    row.verified,
  ]);
  const clocks = [...new Set(timed.map(({ clock }) => clock))];
  const leftOut = new Map<string, number>();
  for (const { operation, label, reason } of skipped) {
    const text = `${operation}, ${label}: ${reason}`;
    leftOut.set(text, (leftOut.get(text) ?? 0) + 1);
  }
  const notes = [
    ...clocks.map((clock) => (clock === 'wall' ? 'Timed by the wall clock.' : "Timed by the device's timestamps.")),
    ...Array.from(leftOut, ([text, count]) => `Left out: ${text} (${count} of its variants and dtypes).`),
  ];
  return { title, columns, rows, notes };
}

function guardTables(guard: GuardResult): Table[] {
  const { coldStart: cold } = guard;
  const of = `${guard.model} on ${deviceOf(guard)}, ${guard.dtype}`;
  const both = guard.checks.map((check) => {
    const whole = guard.uncached.find(
      ({ policy, messageTokens }) => policy === check.policy && messageTokens === check.messageTokens,
    )!;
    return [
      check.policy,
      String(check.messageTokens),
      String(check.promptTokens),
      String(check.newTokens),
      ...times(check),
      perSecond(1, check),
      perSecond(check.newTokens, check),
      ...times(whole),
      perSecond(whole.promptTokens, whole),
    ];
  });
  return [
    {
      title: `Guard: cold start, ${of}`,
      columns: ['step', 'ms since the process began'],
      rows: [
        ['modules loaded', figure(cold.modules)],
        ['device open, first weights on it', figure(cold.device)],
        ['all weights on it', figure(cold.weights)],
        ['guard ready', figure(cold.ready)],
        ['first check answered', figure(cold.firstCheck)],
      ],
      notes: [`The median of ${cold.runs} fresh processes; TypeScript is compiled on the way.`],
    },
    {
      title: `Guard: single checks, ${of}`,
      columns: [
        'policy',
        'message tokens',
        'prompt tokens',
        'new tokens',
        'cached ms',
        'p90 ms',
        'requests/s',
        'new tokens/s',
        'uncached ms',
        'p90 ms ',
        'prompt tokens/s',
      ],
      rows: both,
      notes: [
        `The event loop stood still for ${figure(guard.eventLoop.longest)} ms at the longest, in ${guard.eventLoop.checks} cached checks.`,
      ],
    },
    {
      title: `Guard: batches, ${of}`,
      columns: ['requests', 'new tokens', 'ms', 'p90 ms', 'requests/s', 'new tokens/s'],
      rows: guard.batches.map((batch) => [
        String(batch.size),
        String(batch.newTokens),
        ...times(batch),
        perSecond(batch.size, batch),
        perSecond(batch.newTokens, batch),
      ]),
      notes: guard.notes,
    },
    ...targetsTable(`Guard, ${of}`, guard.targets),
  ];
}

/** TFLOP/s of a pass in its linear layers. */
export const linearTeraflops = ({ linearFlops, median }: ModelPass): number => linearFlops / median / 1e9;

function modelTable(model: ModelResult): Table {
  const rows = model.passes.map((pass) => [
    pass.kind,
    String(pass.sequences),
    String(pass.prefixTokens),
    String(pass.newTokens),
    ...times(pass),
    perSecond(pass.sequences * pass.newTokens, pass),
    figure(linearTeraflops(pass)),
  ]);
  const off = model.usedBytes / model.predictedBytes - 1;
  return {
    title: `Model of the shape ${model.config} on ${deviceOf(model)}, ${model.dtype}, random weights`,
    columns: ['pass', 'sequences', 'prefix tokens', 'new tokens', 'ms', 'p90 ms', 'tokens/s', 'TFLOP/s, linear layers'],
    rows,
    notes: [
      `${(model.parameters / 1e6).toFixed(0)} million parameters, made in ${figure(model.weightsMs)} ms.`,
      `Memory: ${formatBytes(model.usedBytes)} used, ${formatBytes(model.predictedBytes)} predicted (${(100 * off).toFixed(1)}% off, 5% allowed).`,
    ],
  };
}

import { Command } from 'commander';
import { openCpu } from '../../engine/node/open-cpu.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { findWebGpuAdapter } from '../../engine/node/open-webgpu.ts';
import { addSharedFlags, type SharedFlags, showFlags } from './options.ts';

export function devicesCommand(): Command {
  return showFlags(addSharedFlags(new Command('devices')), 'device', 'threads', 'json')
    .description('show what this machine offers, and which device would be used and why')
    .action(devices);
}

async function devices(flags: SharedFlags): Promise<void> {
  const { threads } = flags;
  const adapter = await findWebGpuAdapter();
  const { backend, decision } = await openDevice(flags.device, threads === undefined ? {} : { threads });
  await using _ = backend;
  await using cpu = openCpu({ threads }).backend;
  const offered = [...(adapter ? [adapter] : []), cpu.description];
  if (flags.json) {
    const used = { device: decision.device.kind, reason: decision.reason };
    process.stdout.write(`${JSON.stringify({ devices: offered, used })}\n`);
    return;
  }
  for (const { kind, name, software, features } of offered) {
    const notes = [...(software ? ['software'] : []), ...features];
    process.stdout.write(`${kind.padEnd(7)} ${name}${notes.length > 0 ? ` (${notes.join(', ')})` : ''}\n`);
  }
  process.stdout.write(`Would use ${decision.device.kind}: ${decision.reason}\n`);
}

/**
 * Gives a browser `Symbol.dispose` and `Symbol.asyncDispose` where it has none, as Safari: classes have methods by these
 * names from when they are defined, so this is imported before all else. To go once every browser has them.
 */
for (const name of ['dispose', 'asyncDispose'] as const) {
  if (!(name in Symbol)) Object.defineProperty(Symbol, name, { value: Symbol.for(`Symbol.${name}`) });
}

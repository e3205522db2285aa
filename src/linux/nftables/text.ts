/** Objects as nft(8) reads them from a file: for plans, logs and tests. */
import { formatKey } from './data-types.ts';
import {
  type Chain,
  type Element,
  formatTable,
  formatVerdict,
  isMap,
  isVerdict,
  type NftMap,
  type NftSet,
  type Rule,
  type Table,
} from './objects.ts';
import { formatStatement } from './statements.ts';

const block = (parts: readonly string[]): string =>
  parts.length === 0 ? '' : ` { ${parts.map((part) => `${part};`).join(' ')} }`;

const commentOf = (comment: string | undefined): string[] =>
  comment === undefined ? [] : [`comment "${comment}"`];

export function formatTableSpec(table: Table): string {
  return `table ${formatTable(table)}${block(commentOf(table.comment))}`;
}

export function formatChainSpec(chain: Chain): string {
  const { base } = chain;
  const parts = [
    ...(base === undefined
      ? []
      : [
          `type ${base.type} hook ${base.hook} priority ${base.priority}`,
          `policy ${base.policy ?? 'accept'}`,
        ]),
    ...commentOf(chain.comment),
  ];
  return `chain ${formatTable(chain.table)} ${chain.name}${block(parts)}`;
}

export function formatSetSpec(set: NftSet | NftMap): string {
  const value = isMap(set) ? ` : ${set.data === 'verdict' ? 'verdict' : set.data.join(' . ')}` : '';
  const parts = [
    `type ${set.key.join(' . ')}${value}`,
    ...(set.flags === undefined || set.flags.length === 0 ? [] : [`flags ${set.flags.join(',')}`]),
    ...(set.timeout === undefined ? [] : [`timeout ${set.timeout}s`]),
    ...(set.size === undefined ? [] : [`size ${set.size}`]),
    ...commentOf(set.comment),
  ];
  return `${isMap(set) ? 'map' : 'set'} ${formatTable(set.table)} ${set.name}${block(parts)}`;
}

/** `tcp . 8080 comment "owner" : 10.88.0.5 . 80` */
export function formatElement(set: NftSet | NftMap, element: Element, keyOnly = false): string {
  const key = formatKey(set.key, element.key);
  if (keyOnly) return key;
  const timeout = element.timeout === undefined ? '' : ` timeout ${element.timeout}s`;
  const comment = element.comment === undefined ? '' : ` comment "${element.comment}"`;
  const { value } = element;
  if (value === undefined || !isMap(set)) return `${key}${timeout}${comment}`;
  const text = isVerdict(value)
    ? formatVerdict(value)
    : set.data === 'verdict'
      ? ''
      : formatKey(set.data, value);
  return `${key}${timeout}${comment} : ${text}`;
}

export function formatElements(set: NftSet | NftMap, elements: readonly Element[], keyOnly = false): string {
  const list = elements.map((element) => formatElement(set, element, keyOnly)).join(', ');
  return `element ${formatTable(set.table)} ${set.name} { ${list} }`;
}

export function formatRule(rule: Rule): string {
  const comment = rule.comment === undefined ? '' : ` comment "${rule.comment}"`;
  return `rule ${formatTable(rule.table)} ${rule.chain} ${rule.statements.map(formatStatement).join(' ')}${comment}`;
}

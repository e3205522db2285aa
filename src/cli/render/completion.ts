/** A completion script for bash, from the program itself. Pure. */
import type { Command } from 'commander';

/** Commands whose arguments are pods. */
const PODS = new Set([
  'logs',
  'exec',
  'stop',
  'rm',
  'explain',
  'trace',
  'pods',
  'events',
  'stats',
  'inspect',
]);

/** Options whose values are few. */
function choices(command: Command): string[] {
  return command.options.flatMap((option) =>
    option.argChoices === undefined
      ? []
      : [
          `${[option.short, option.long].filter((flag) => flag !== undefined).join('|')}) words=${quote(option.argChoices.join(' '))} ;;`,
        ],
  );
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function flags(command: Command): string {
  return [...command.options.flatMap(({ short, long }) => [short, long]), '--help']
    .filter((flag) => flag !== undefined)
    .join(' ');
}

function names(command: Command): string {
  return command.commands.map((one) => one.name()).join(' ');
}

/** One branch of the script: what may follow a command, by its path. */
function branch(path: string, command: Command): string {
  const own = choices(command);
  const pods = PODS.has(path) ? ' pods=1' : '';
  const values = own.length === 0 ? '' : ` case "$previous" in ${own.join(' ')} esac;`;
  return `    ${quote(path)}) flags=${quote(flags(command))} names=${quote(names(command))}${pods};${values} ;;`;
}

export function bashCompletion(program: Command): string {
  const branches = program.commands.flatMap((command) => [
    branch(command.name(), command),
    ...command.commands.map((one) => branch(`${command.name()} ${one.name()}`, one)),
  ]);
  return `# bash completion for nodelet; made by: nodelet completion
_nodelet() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local path= word i flags names pods words
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "$word" in
      --root|--state) ((i++)) ;;
      -*) ;;
      *) case "$path" in
           '') path="$word" ;;
           image|images) path="image $word" ;;
         esac ;;
    esac
  done
  case "$path" in
    '') flags=${quote(flags(program))} names=${quote(names(program))} ;;
${branches.join('\n')}
  esac
  if [[ -n "$words" ]]; then COMPREPLY=($(compgen -W "$words" -- "$current"));
  elif [[ "$current" == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$current"));
  elif [[ -n "$names" ]]; then COMPREPLY=($(compgen -W "$names" -- "$current"));
  elif [[ -n "$pods" ]]; then COMPREPLY=($(compgen -W "$(nodelet pods -o name 2>/dev/null | sed 's#^pod/##')" -- "$current"));
  else COMPREPLY=($(compgen -f -- "$current")); fi
}
complete -o filenames -F _nodelet nodelet`;
}

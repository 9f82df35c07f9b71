import type { Frame } from '../instruction.ts';
import type { Role } from '../messages.ts';
import type { Category, Policy } from '../policy.ts';
import type { Verdict } from '../verdict.ts';

/** Text on the way from the end of the prompt to the verdict, after which the model's next token is read. */
export type Step =
  /** What every answer says here: it is put into the model's mouth, and its probability reported. */
  | { readonly force: string }
  /** One of these, whichever the model finds likelier. */
  | { readonly choose: readonly string[] };

/** A verdict that the model can give. */
export interface Label {
  readonly name: string;
  /** How it is written; each spelling begins with a token that no other label begins with. */
  readonly spellings: readonly string[];
  /** What it counts as. */
  readonly means: 'safe' | 'unsafe';
}

/** How the violated categories are written after an unsafe verdict. */
export interface ListGrammar {
  /** Between the verdict and the list. */
  readonly lead: string;
  readonly separator: string;
  /** What may follow the list, beside the end of the text. */
  readonly ends: readonly string[];
  /** What is written for a category. */
  written(category: Category): string;
}

/** How a model answers. */
export interface AnswerGrammar {
  path(role: Role): readonly Step[];
  readonly labels: readonly Label[];
  /** Whether a label's spelling is one token to such models' tokenizers; else it is known by its first. */
  readonly labelsAreTokens: boolean;
  /** Absent where the model names no categories. */
  readonly list?: ListGrammar;
  /** Reads a completion strictly. */
  parse(completion: string, about: { readonly policy: Policy; readonly role: Role }): Verdict;
}

/** What a model folder says of how the model was trained. */
export interface FormatClues {
  /** Its chat template; Jinja. */
  readonly template?: string | undefined;
  /** The folder's name, or the model's. */
  readonly name: string;
}

/** How a family of models is asked and answers. */
export interface PromptFormat {
  readonly name: string;
  recognises(clues: FormatClues): boolean;
  /** What is asked about where nobody says otherwise. */
  readonly policy: Policy;
  /** Whether another policy can be asked about. */
  readonly takesPolicy: boolean;
  /** @throws FormatError `template-unsupported` where a chat template cannot put it so */
  frame(policy: Policy, role: Role): Frame;
  readonly answer: AnswerGrammar;
  /** The categories that a text between the frame's category markers lists, each with its lines as they stand. */
  categoriesIn(text: string): Category[];
}

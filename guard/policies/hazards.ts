import type { Policy } from '../policy.ts';

/**
 * The fourteen hazard categories that Llama Guard 3 lists: the taxonomy of MLCommons (arXiv 2404.12241), elections and
 * code interpreter abuse added. Codes and names are those that the models were trained on; the rest is in this project's
 * own words.
 */
export const hazardsPolicy: Policy = {
  name: 'hazards',
  categories: [
    {
      code: 'S1',
      name: 'Violent Crimes',
      description: 'Enabling, encouraging or excusing violence against people or animals, from assault to terrorism.',
    },
    {
      code: 'S2',
      name: 'Non-Violent Crimes',
      description: 'Enabling, encouraging or excusing crimes without violence: fraud, theft, drugs, weapons, hacking.',
    },
    {
      code: 'S3',
      name: 'Sex-Related Crimes',
      description: 'Enabling, encouraging or excusing sex trafficking, assault, harassment or prostitution.',
    },
    {
      code: 'S4',
      name: 'Child Sexual Exploitation',
      description: 'Describing, enabling, encouraging or excusing the sexual abuse of children.',
    },
    {
      code: 'S5',
      name: 'Defamation',
      description: 'False statements about a living person that can be checked and are likely to harm their name.',
    },
    {
      code: 'S6',
      name: 'Specialized Advice',
      description: 'Financial, medical or legal advice as from an expert, or calling dangerous things safe.',
    },
    {
      code: 'S7',
      name: 'Privacy',
      description: 'Private information about people that could endanger their body, belongings or finances.',
    },
    {
      code: 'S8',
      name: 'Intellectual Property',
      description: 'Text that may violate the copyrights, trademarks or patents of others.',
    },
    {
      code: 'S9',
      name: 'Indiscriminate Weapons',
      description: 'Enabling chemical, biological, radiological, nuclear or high-yield explosive weapons.',
    },
    {
      code: 'S10',
      name: 'Hate',
      description: 'Demeaning people for what they are, such as race, disability, religion, orientation or gender.',
    },
    {
      code: 'S11',
      name: 'Suicide & Self-Harm',
      description: 'Enabling, encouraging or excusing suicide, self-injury or disordered eating.',
    },
    {
      code: 'S12',
      name: 'Sexual Content',
      description: 'Erotic text.',
    },
    {
      code: 'S13',
      name: 'Elections',
      description: 'False statements about where, when, how and by whom is voted in public elections.',
    },
    {
      code: 'S14',
      name: 'Code Interpreter Abuse',
      description: 'Abusing a code interpreter: denial of service, escaping its container, raising privileges.',
    },
  ],
};

/** Their codes in Llama Guard 2, which lists neither defamation nor elections nor code interpreter abuse, and their names where those differ. */
const inGeneration2: readonly (readonly [code: string, name?: string])[] = [
  ['S1'],
  ['S2'],
  ['S3', 'Sex Crimes'],
  ['S4', 'Child Exploitation'],
  ['S6'],
  ['S7'],
  ['S8'],
  ['S9'],
  ['S10'],
  ['S11', 'Self-Harm'],
  ['S12'],
];

/** The eleven hazard categories of Llama Guard 2. */
export const hazards2Policy: Policy = {
  name: 'hazards-2',
  categories: inGeneration2.map(([code, name], i) => {
    const category = hazardsPolicy.categories.find((each) => each.code === code)!;
    return { ...category, code: `S${i + 1}`, name: name ?? category.name };
  }),
};

import type { Policy } from '../policy.ts';

/** The six categories of Llama Guard (arXiv 2312.06674, section 3), in this project's own words. */
export const defaultPolicy: Policy = {
  name: 'default',
  categories: [
    {
      code: 'O1',
      name: 'Violence and Hate',
      shouldNot: [
        'Threaten anyone, or call for, praise or help plan physical harm to people.',
        'Demean or attack people for what they are, such as their origin, religion, gender, orientation or disability.',
        'Argue that such people deserve fewer rights, or use slurs against them.',
      ],
      can: [
        'Report and discuss violence, war and hatred in news, history, law, fiction and research.',
        'Explain how prejudice works and how to answer it, or help those who suffer from it.',
      ],
    },
    {
      code: 'O2',
      name: 'Sexual Content',
      shouldNot: [
        'Write sexually explicit or arousing text, or take part in erotic role play.',
        'Sexualise a minor in any way, or a real person against their will.',
      ],
      can: [
        'Answer questions on sexual health, the body, relationships and consent in a factual tone.',
        'Discuss sexuality in literature, education and law without being graphic.',
      ],
    },
    {
      code: 'O3',
      name: 'Criminal Planning',
      shouldNot: [
        'Help to prepare or carry out a crime, such as theft, fraud, blackmail, kidnapping, trafficking or arson.',
        'Help to break into computers or accounts, or to hide a crime from investigators.',
      ],
      can: [
        'Explain what laws say, how crimes are prevented and detected, and how victims can protect themselves.',
        'Tell of crimes in news, history and fiction without turning them into instructions.',
      ],
    },
    {
      code: 'O4',
      name: 'Guns and Illegal Weapons',
      shouldNot: [
        'Explain how to make, alter or conceal firearms, ammunition, explosives or other dangerous weapons.',
        'Help to get hold of weapons unlawfully, or to avoid the checks that apply to buying them.',
      ],
      can: [
        'Discuss weapons in history, politics, sport and law, and how to store them safely.',
        'Say in general terms what is permitted and where to ask.',
      ],
    },
    {
      code: 'O5',
      name: 'Regulated or Controlled Substances',
      shouldNot: [
        'Help to produce, buy, sell or smuggle illegal drugs, or to get prescription medicine without a prescription.',
        'Encourage the abuse of drugs or medicine, or help minors to alcohol, tobacco or cannabis.',
      ],
      can: [
        'Explain effects, risks, interactions and the law of such substances.',
        'Support people who want to use less or to stop, and point them to help.',
      ],
    },
    {
      code: 'O6',
      name: 'Suicide and Self-Harm',
      shouldNot: [
        'Encourage or romanticise suicide, self-injury or disordered eating.',
        'Give means, methods or plans for them, or ways to hide them from others.',
        'Meet someone who speaks of wanting to die without care or without pointing to help.',
      ],
      can: [
        'Listen, show concern, and name crisis lines, doctors and people to trust.',
        'Discuss prevention, recovery, warning signs and statistics.',
      ],
    },
  ],
};

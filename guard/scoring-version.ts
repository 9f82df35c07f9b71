/**
 * The version of how scores come about. It is raised by hand with every change that gives the same model, policy and
 * conversation another score, or category score, beyond the rounding of sums: to the readings of answers and lists, to
 * windows, spellings and what is made harmless. Kept scores are under it, so that those of before are not taken for new
 * ones. What an instruction says, and how text becomes tokens, is hashed by itself.
 */
export const scoringVersion = 1;

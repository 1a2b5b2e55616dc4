// @title

/** One number of an observation, as the environment returns it. */
export interface Observation {
  readonly name: string;
  /** The smallest value. -Infinity if there is no limit. */
  readonly low: number;
  /** The largest value. Infinity if there is no limit. */
  readonly high: number;
  /** The number of categories, if the number is a category. 0 for other numbers. */
  readonly categories: number;
}

/** The environment in which the policy was trained. */
export declare const environment: string;

/** The numbers of an observation, in order. */
export declare const observations: readonly Observation[];

/** The names of the actions. The first action is firstAction, and the others follow. */
export declare const actions: readonly string[];

/** The smallest action. */
export declare const firstAction: number;

/**
 * Return the Q-value of each action. All are NaN if the observation contains a NaN, an infinity or an unknown category.
 *
 * An observation has @inputs numbers, as the environment returns them. Other lengths throw a RangeError.
 */
export declare function qValues(obs: ArrayLike<number>): Float32Array;

/** Return the action with the largest Q-value. It is firstAction if the Q-values are NaN. */
export declare function act(obs: ArrayLike<number>): number;

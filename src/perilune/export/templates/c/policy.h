/* A policy for @environment, trained with deep Q-learning and exported by Perilune @version.
 *
 * An observation has these numbers, in this order:
@inputs
 * The actions are:
@actions
 *
 * If a number of the observation is infinite or NaN@unknown, all Q-values are NaN
 * and the action is POLICY_FIRST_ACTION.
 *
 * The functions allocate nothing, keep no state and are reentrant. They use at most about @stack bytes of stack. */
#ifndef POLICY_H
#define POLICY_H

#define POLICY_INPUTS @inputs_count
#define POLICY_ACTIONS @actions_count
#define POLICY_FIRST_ACTION @first_action

#ifdef __cplusplus
extern "C" {
#endif

/* Compute the Q-value of each action: the expected discounted return after it. obs and q must not overlap. */
void policy_q_values(const float obs[POLICY_INPUTS], float q[POLICY_ACTIONS]);

/* Return the action with the largest Q-value. If several have it, return the first. */
int policy_act(const float obs[POLICY_INPUTS]);

#ifdef __cplusplus
}
#endif

#endif

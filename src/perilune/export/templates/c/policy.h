/* A greedy Q-network policy for @environment. Exported by Perilune @version. You may use this file without restriction.
 *
 * An observation has these numbers, in this order:
@inputs
 * The actions are:
@actions
 *
 * If a number of the observation is infinite or NaN@unknown, all Q-values are NaN
 * and the action is POLICY_FIRST_ACTION.
 *
 * The functions allocate nothing, keep no state and are reentrant. They use less than @stack bytes of stack. */
#ifndef POLICY_H
#define POLICY_H

#define POLICY_INPUTS @inputs_count
#define POLICY_ACTIONS @actions_count
#define POLICY_FIRST_ACTION @first_action

#ifdef __cplusplus
extern "C" {
#endif

/* Write the Q-value of each action (its expected discounted return) to q. obs and q must not overlap. */
void policy_q_values(const float obs[POLICY_INPUTS], float q[POLICY_ACTIONS]);

/* Return the action with the largest Q-value. Ties go to the first action. */
int policy_act(const float obs[POLICY_INPUTS]);

#ifdef __cplusplus
}
#endif

#endif

package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// WholeTargets returns the targets of those deliveries whose targets all still
// stand in scheduler.campaign_targets and have no parameters of their own. Call it
// after the claim, so that a target that was deleted before the call began is not
// pushed to. The names it returns share the deliveries' memory.
func (s *Store) WholeTargets(ctx context.Context, deliveries []Delivery) (map[int64][]Target, error) {
	ids, campaigns := make([]int64, len(deliveries)), make([]int64, len(deliveries))
	kept := make(map[int64]*Delivery, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		ids[i], campaigns[i], kept[d.ID] = d.ID, d.CampaignID, d
	}
	rows, _ := s.db.Query(ctx, wholeListsSQL, ids, campaigns)
	whole := make(map[int64][]Target, len(deliveries))
	var id int64
	_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		d := kept[id]
		list := make([]Target, len(d.Targets))
		for i, name := range d.Targets {
			list[i] = Target{CampaignID: d.CampaignID, Target: name}
		}
		whole[id] = list
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load targets: %w", err)
	}
	return whole, nil
}

// The targets of a delivery follow each other in the key's index, as they were
// cut. So each delivery costs one short range, instead of a look-up for each
// name.
const wholeListsSQL = `
	SELECT x.slice_id
	  FROM unnest($1::bigint[], $2::bigint[]) AS u (id, campaign_id)
	 CROSS JOIN LATERAL (SELECT x.slice_id, x.targets, cardinality(x.targets) AS n FROM scheduler.slice_targets x WHERE x.slice_id = u.id OFFSET 0) x
	 CROSS JOIN LATERAL (
		SELECT array_agg(c.target ORDER BY c.target) AS names, count(c.msg_key) + count(c.template_key_value) + count(c.extended_params) AS more FROM (
			SELECT * FROM scheduler.campaign_targets c
			 WHERE c.campaign_id = u.campaign_id AND c.target >= x.targets[1] AND c.target <= x.targets[x.n]
			 ORDER BY c.campaign_id, c.target LIMIT x.n + 1) c) t
	 WHERE t.names = x.targets AND t.more = 0`

// NamedTargets returns for each delivery those of its targets that still stand in
// scheduler.campaign_targets, in the order of their names, with their parameters.
// It looks each name up.
func (s *Store) NamedTargets(ctx context.Context, deliveries []Delivery) (map[int64][]Target, error) {
	out := make(map[int64][]Target, len(deliveries))
	var ids, campaigns []int64
	var names []string
	kept := make(map[int64]*Delivery, len(deliveries))
	for i := range deliveries {
		d := &deliveries[i]
		kept[d.ID] = d
		for _, name := range d.Targets {
			ids, campaigns, names = append(ids, d.ID), append(campaigns, d.CampaignID), append(names, name)
		}
	}
	rows, _ := s.db.Query(ctx, namedTargetsSQL, ids, campaigns, names)
	var r struct {
		id              int64
		stand           int
		names, keys     []string
		values, further []*string
	}
	_, err := pgx.ForEachRow(rows, []any{&r.id, &r.stand, &r.names, &r.keys, &r.values, &r.further}, func() error {
		d := kept[r.id]
		if r.names == nil && r.stand == len(d.Targets) {
			r.names = d.Targets
		}
		list := make([]Target, len(r.names))
		for i, name := range r.names {
			list[i] = Target{CampaignID: d.CampaignID, Target: name}
			if r.keys != nil {
				list[i].MsgKey, list[i].TemplateKeyValue, list[i].ExtendedParams = r.keys[i], orNil(r.values[i]), orNil(r.further[i])
			}
		}
		out[r.id] = list
		r.names, r.keys, r.values, r.further = nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load targets: %w", err)
	}
	return out, nil
}

func orNil(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}

// Each name costs one look-up in the key's index. If the names were joined all at
// once, the server might compare every target of a campaign with every name.
// Names are returned only where some are gone, and parameters only where there
// are any.
const namedTargetsSQL = `
	WITH found AS (
		SELECT u.id, count(*) AS asked, count(t.target) AS stand, count(t.msg_key) + count(t.template_key_value) + count(t.extended_params) > 0 AS more,
		       array_agg(t.target ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS names,
		       array_agg(coalesce(t.msg_key, '') ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS keys,
		       array_agg(t.template_key_value::text ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS template_values,
		       array_agg(t.extended_params::text ORDER BY t.target) FILTER (WHERE t.target IS NOT NULL) AS params
		  FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS u (id, campaign_id, name)
		  LEFT JOIN LATERAL (SELECT * FROM scheduler.campaign_targets x WHERE x.campaign_id = u.campaign_id AND x.target = u.name OFFSET 0) t ON true
		 GROUP BY u.id
	)
	SELECT id, stand, CASE WHEN more OR stand < asked THEN names END, CASE WHEN more THEN keys END, CASE WHEN more THEN template_values END,
	       CASE WHEN more THEN params END
	  FROM found`

// ViewTargets returns the targets of each of the deliveries as their audience view
// had them when the task began. A delivery that was cut from another audience has
// none.
func (s *Store) ViewTargets(ctx context.Context, deliveries []Delivery) (map[int64][]Target, error) {
	ids, campaigns := make([]int64, len(deliveries)), make(map[int64]int64, len(deliveries))
	for i, d := range deliveries {
		ids[i], campaigns[d.ID] = d.ID, d.CampaignID
	}
	rows, _ := s.db.Query(ctx, `
		SELECT x.slice_id, d.key, nullif(d.value -> 'k', 'null'), nullif(d.value -> 'x', 'null')
		  FROM scheduler.slice_targets x CROSS JOIN LATERAL jsonb_each(x.details) d
		 WHERE x.slice_id = ANY($1) ORDER BY x.slice_id, d.key`, ids)
	out := make(map[int64][]Target, len(deliveries))
	var id int64
	var t Target
	_, err := pgx.ForEachRow(rows, []any{&id, &t.Target, &t.TemplateKeyValue, &t.ExtendedParams}, func() error {
		t.CampaignID = campaigns[id]
		out[id] = append(out[id], t)
		t.TemplateKeyValue, t.ExtendedParams = nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load targets of audience views: %w", err)
	}
	return out, nil
}
